//! Copying files out of and into containers: `docker cp`.

use hoist_image::files::PathStat;
use http::{HeaderValue, Response, StatusCode};

use super::{body_reader, body_writer};
use crate::call::{Call, empty};
use crate::error::{ApiError, Reply};
use crate::wire::path_stat;

/// The path asked for. The refusal is Docker's, with the blank that it forgot left out there too.
fn path(call: &Call) -> Result<String, ApiError> {
    let path = call.query.nonempty("path").map(str::to_owned);
    path.ok_or_else(|| ApiError::invalid("bad parameter: pathcannot be empty"))
}

fn describe<B>(response: &mut Response<B>, stat: &PathStat) -> Result<(), ApiError> {
    let text = path_stat::header(stat)
        .map_err(|error| ApiError::new(hoist_model::ErrorClass::Internal, error.to_string()))?;
    if let Ok(value) = HeaderValue::from_str(&text) {
        let headers = response.headers_mut();
        headers.insert("X-Docker-Container-Path-Stat", value);
    }
    Ok(())
}

/// `HEAD /containers/{id}/archive`.
pub(crate) async fn stat(call: Call) -> Reply {
    let path = path(&call)?;
    let files = call.engine().containers.files(call.name()).await?;
    let stat = files.stat(&path).await?;
    let mut response = empty(StatusCode::OK);
    describe(&mut response, &stat)?;
    Ok(response)
}

/// `GET /containers/{id}/archive`.
pub(crate) async fn read(call: Call) -> Reply {
    let path = path(&call)?;
    let files = call.engine().containers.files(call.name()).await?;
    let stat = files.stat(&path).await?;
    let mut response =
        body_writer::answer(
            &call.parts,
            |out| async move { files.read(&path, out).await },
        )
        .await?;
    describe(&mut response, &stat)?;
    Ok(response)
}

/// `PUT /containers/{id}/archive`.
pub(crate) async fn write(call: Call) -> Reply {
    let path = path(&call)?;
    let keep_kinds = call.query.boolean("noOverwriteDirNonDir");
    let as_user = call.query.boolean("copyUIDGID");
    let (containers, name) = (call.engine().containers.clone(), call.name().to_owned());
    let (reader, pump) = body_reader::bridge(call.body);
    let work = async {
        let files = containers.files(&name).await?;
        files.write(&path, reader, keep_kinds, as_user).await
    };
    body_reader::feed(work, pump).await?;
    Ok(empty(StatusCode::OK))
}
