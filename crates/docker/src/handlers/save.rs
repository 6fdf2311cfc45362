//! `docker save`.

use super::body_writer;
use crate::call::Call;
use crate::error::{ApiError, Reply};

/// `GET /images/{name}/get` and `GET /images/get?names=…`.
pub(crate) async fn save(call: Call) -> Reply {
    let mut names: Vec<String> = match call.name() {
        "" => call.query.all("names").map(str::to_owned).collect(),
        name => vec![name.to_owned()],
    };
    names.retain(|name| !name.is_empty());
    if names.is_empty() {
        return Err(ApiError::invalid("no image names are given"));
    }
    let images = call.engine().images.clone();
    let selected = images.select(&names)?;
    for text in call.query.all("platform").filter(|text| !text.is_empty()) {
        for (record, _) in &selected {
            super::images::check_platform(&names[0], text, record)?;
        }
    }
    body_writer::answer(&call.parts, |out| async move {
        images.save(selected, out).await
    })
    .await
}
