//! Networks: the three every node has.

use crate::call::{Call, ok};
use crate::error::Reply;
use crate::wire::filters::Filters;
use crate::wire::network::network;

const FILTERS: [&str; 8] = [
    "dangling", "driver", "id", "label", "label!", "name", "scope", "type",
];

/// `POST /networks/prune`. Built-in networks stay, and there are no others.
pub(crate) async fn prune(call: Call) -> Reply {
    Filters::from_query(&call.query, &["label", "label!", "until"])?;
    ok(&serde_json::json!({ "NetworksDeleted": null }))
}

/// `GET /networks`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &FILTERS)?;
    filters.check("type", &["builtin", "custom"])?;
    let dangling = filters.boolean("dangling")?;
    // Before API 1.28 the list told of containers too.
    let containers = (!call.version.at_least(28)).then(|| call.engine().containers.list());
    let networks: Vec<_> = call
        .engine()
        .networks
        .list()
        .into_iter()
        .filter(|record| {
            // All there are are built in and never dangling.
            filters.exact("driver", &record.driver)
                && filters.matches("id", &[record.id.as_str()])
                && filters.labels(&record.labels)
                && filters.matches("name", &[&record.name])
                && filters.exact("scope", "local")
                && filters.exact("type", "builtin")
                && dangling != Some(true)
        })
        .map(|record| network(&record, containers.as_deref(), call.version))
        .collect();
    ok(&networks)
}

/// `GET /networks/{id}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let record = call.engine().networks.resolve(call.name())?;
    let containers = call.engine().containers.list();
    ok(&network(&record, Some(&containers), call.version))
}
