//! Networks that are only a configuration, and those that are made of one (moby: daemon/libnetwork/network.go,
//! `validateConfiguration`, `applyConfigurationTo`). Pure but for the clock.

use hoist_model::ErrorClass;
use hoist_model::network::{Segment, Subnet};

use super::check::refused;
use super::{NetworkRequest, PoolRequest};
use crate::clock::now;
use crate::error::NetworkError;
use crate::records::{NetworkConfiguration, NetworkRecord};

/// Refuses what does not go with a configuration, or with one of somebody else's.
pub(super) fn check(request: &NetworkRequest) -> Result<(), NetworkError> {
    let forbidden = |message: &str| Err(refused(ErrorClass::Forbidden, message));
    let operates = request.ingress || request.internal || request.attachable;
    if request.config_only && (operates || !request.scope.is_empty()) {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        );
    }
    if request.config_from.is_empty() {
        return Ok(());
    }
    if request.config_only {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let own = !matches!(request.ipam_driver.as_str(), "" | "default")
        || request.ipv4 == Some(false)
        || request.ipv6 == Some(true)
        || !request.labels.is_empty()
        || request
            .ipam_options
            .as_ref()
            .is_some_and(|all| !all.is_empty())
        || !request.pools.is_empty();
    if own {
        return forbidden(
            "user-specified configurations are not supported if the network depends on a configuration network",
        );
    }
    if !request.options.is_empty() {
        return forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        );
    }
    Ok(())
}

/// The record of a configuration; the host makes nothing of it.
pub(super) fn record(request: NetworkRequest, wanted: Segment) -> NetworkRecord {
    NetworkRecord {
        id: wanted.id,
        name: request.name,
        // So that nobody takes it for a network.
        driver: "null".to_owned(),
        created_at: now(),
        subnets: wanted.subnets,
        segment: None,
        attachable: false,
        ipam_options: request.ipam_options,
        options: request.options,
        labels: request.labels,
        configuration: Some(NetworkConfiguration {
            ipv4: wanted.ipv4,
            ipv6: wanted.ipv6,
        }),
        config_from: String::new(),
    }
}

/// Takes a configuration over.
pub(super) fn apply(from: &NetworkRecord, to: &mut NetworkRequest) {
    to.ipv4 = Some(from.has_family(false));
    to.ipv6 = Some(from.has_family(true));
    to.labels.clone_from(&from.labels);
    to.options.clone_from(&from.options);
    to.ipam_options.clone_from(&from.ipam_options);
    to.pools = from.subnets.iter().map(pool).collect();
}

fn pool(subnet: &Subnet) -> PoolRequest {
    let auxiliary = subnet.auxiliary.iter();
    PoolRequest {
        subnet: subnet.subnet.to_string(),
        range: subnet.range.map(|net| net.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
        auxiliary: auxiliary
            .map(|(name, ip)| (name.clone(), ip.to_string()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use hoist_model::NetworkId;

    use super::super::plan::plan;
    use super::*;

    fn configuration() -> NetworkRequest {
        NetworkRequest {
            name: "written".to_owned(),
            config_only: true,
            ipv6: Some(true),
            options: [(
                "com.docker.network.driver.mtu".to_owned(),
                "1400".to_owned(),
            )]
            .into(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            pools: vec![PoolRequest {
                subnet: "10.9.0.0/24".to_owned(),
                range: "10.9.0.128/25".to_owned(),
                gateway: "10.9.0.254".to_owned(),
                auxiliary: [("router".to_owned(), "10.9.0.129".to_owned())].into(),
            }],
            ..NetworkRequest::default()
        }
    }

    #[test]
    fn who_is_made_of_a_configuration_is_as_if_it_had_been_written_there() {
        let written = configuration();
        check(&written).unwrap();
        let id = NetworkId::from_bytes(&[1; 32]);
        let wanted = plan(&written, id.clone()).unwrap();
        let record = record(written.clone(), wanted.clone());
        assert!(!record.is_builtin() && record.has_family(true));
        let mut made = NetworkRequest {
            name: "made".to_owned(),
            config_from: "written".to_owned(),
            ..NetworkRequest::default()
        };
        check(&made).unwrap();
        apply(&record, &mut made);
        assert_eq!(
            (&made.labels, &made.options),
            (&written.labels, &written.options)
        );
        let made = plan(&made, id).unwrap();
        assert_eq!(made.subnets, wanted.subnets);
        assert_eq!((made.mtu, made.ipv6), (Some(1400), true));
    }

    #[test]
    fn what_does_not_go_together_is_refused_in_dockers_words() {
        let refusal = |request: &NetworkRequest| check(request).unwrap_err().to_string();
        let operated = NetworkRequest {
            internal: true,
            ..configuration()
        };
        assert!(refusal(&operated).starts_with("configuration network can only contain"));
        let deep = NetworkRequest {
            config_from: "other".to_owned(),
            ..configuration()
        };
        assert_eq!(
            refusal(&deep),
            "a configuration network cannot depend on another configuration network"
        );
        let own = NetworkRequest {
            config_only: false,
            ..deep
        };
        assert!(refusal(&own).starts_with("user-specified configurations are not supported"));
        let options = NetworkRequest {
            options: [("a".to_owned(), "b".to_owned())].into(),
            config_from: "other".to_owned(),
            ..NetworkRequest::default()
        };
        assert!(refusal(&options).starts_with("network driver options are not supported"));
    }
}
