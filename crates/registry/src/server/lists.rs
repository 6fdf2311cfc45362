//! Tags, repositories and referrers (OCI distribution 1.1, "Content Discovery"; Docker's registry API, "Listing
//! Repositories").

use std::cell::RefCell;

use axum::response::Response;
use http::{HeaderName, StatusCode, Uri, header};
use serde_json::json;

use super::access::Who;
use super::cache::Cache;
use super::failure::{Code, Failure};
use super::names::{ContentDigest, RepositoryName, Tag};
use super::{Server, json, parameter, query, value};

/// How many repositories a page has that says nothing.
const CATALOG_PAGE: usize = 100;
/// More than this no page has.
const LARGEST_PAGE: usize = 10_000;
/// Bytes of descriptors after which a list of referrers goes on in another page.
const REFERRERS_PAGE: usize = 2 << 20;

/// `n`, if it was said.
fn page(uri: &Uri) -> Result<Option<usize>, Failure> {
    let Some(text) = parameter(uri, "n") else {
        return Ok(None);
    };
    let wrong = || {
        let text = format!("invalid n {text:?}: expected a number");
        Failure::new(Code::PaginationInvalid, text)
    };
    Ok(Some(
        text.parse::<usize>()
            .map_err(|_| wrong())?
            .min(LARGEST_PAGE),
    ))
}

/// Where a list goes on.
fn link(path: &str, parameters: &[(&str, &str)]) -> http::HeaderValue {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        query.append_pair(name, value);
    }
    value(format!("<{path}?{}>; rel=\"next\"", query.finish()))
}

pub(super) async fn tags(
    server: &Server,
    name: RepositoryName,
    uri: &Uri,
) -> Result<Response, Failure> {
    let most = page(uri)?;
    let last = parameter(uri, "last");
    let unknown = || Failure::new(Code::NameUnknown, format!("repository {name} is not known"));
    if let Some(cache) = &server.0.cache {
        return cached(cache, &name, uri, "application/json", unknown).await;
    }
    let asked = name.clone();
    let tags = server
        .blocking("listing tags", move |shared| {
            let own = shared.storage.tags(&asked)?;
            let shelf = shared.settings.shelf.as_deref();
            let held = shelf.and_then(|shelf| shelf.tags(&asked));
            if own.is_none() && held.is_none() {
                return Ok(None);
            }
            let mut tags = own.unwrap_or_default();
            tags.extend(
                held.unwrap_or_default()
                    .iter()
                    .filter_map(|tag| Tag::parse(tag)),
            );
            tags.sort_unstable();
            tags.dedup();
            Ok(Some(tags))
        })
        .await?;
    let tags = tags.ok_or_else(unknown)?;
    let after =
        tags.partition_point(|tag| last.as_deref().is_some_and(|last| tag.as_str() <= last));
    let rest = &tags[after..];
    let shown = &rest[..most.unwrap_or(rest.len()).min(rest.len())];
    let texts: Vec<&str> = shown.iter().map(|tag| tag.as_str()).collect();
    let body = json!({"name": name.as_str(), "tags": texts});
    let mut response = json(StatusCode::OK, body.to_string());
    if let (Some(most), Some(last), true) = (most, texts.last(), shown.len() < rest.len()) {
        let path = format!("/v2/{name}/tags/list");
        let next = link(&path, &[("n", &most.to_string()), ("last", last)]);
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

/// A list of the cached registry's.
async fn cached(
    cache: &Cache,
    name: &RepositoryName,
    uri: &Uri,
    kind: &str,
    unknown: impl FnOnce() -> Failure,
) -> Result<Response, Failure> {
    let target = uri
        .path_and_query()
        .map_or(uri.path(), |target| target.as_str());
    let (text, link) = Box::pin(cache.list(name, target, unknown)).await?;
    let mut response = json(StatusCode::OK, text);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, value(kind));
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

pub(super) async fn catalog(server: &Server, who: Who, uri: &Uri) -> Result<Response, Failure> {
    let most = page(uri)?.unwrap_or(CATALOG_PAGE);
    let last = parameter(uri, "last");
    let (names, is_all) = server
        .blocking("listing repositories", move |shared| {
            let shown = |name: &RepositoryName| shared.access.shows(&who, name);
            let (mut names, mut is_all) =
                shared.storage.repositories(last.as_deref(), most, &shown)?;
            if let Some(shelf) = shared.settings.shelf.as_deref() {
                let held = shelf.repositories().into_iter();
                let held = held.filter_map(|(name, _)| RepositoryName::parse(&name));
                let after =
                    |name: &RepositoryName| last.as_deref().is_none_or(|last| name.as_str() > last);
                names.extend(held.filter(|name| after(name) && shown(name)));
                names.sort_unstable();
                names.dedup();
                is_all &= names.len() <= most;
                names.truncate(most);
            }
            Ok((names, is_all))
        })
        .await?;
    let texts: Vec<&str> = names.iter().map(RepositoryName::as_str).collect();
    let mut response = json(StatusCode::OK, json!({"repositories": texts}).to_string());
    if let (Some(last), false) = (texts.last(), is_all) {
        let next = link("/v2/_catalog", &[("n", &most.to_string()), ("last", last)]);
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

pub(super) async fn referrers(
    server: &Server,
    name: RepositoryName,
    subject: ContentDigest,
    uri: &Uri,
) -> Result<Response, Failure> {
    if let Some(cache) = &server.0.cache {
        let unknown = || Failure::new(Code::NameUnknown, format!("repository {name} is not known"));
        let kind = hoist_image::document::media_type::OCI_INDEX;
        return cached(cache, &name, uri, kind, unknown).await;
    }
    let kinds: Vec<String> = query(uri)
        .filter_map(|(name, value)| (name == "artifactType").then_some(value))
        .collect();
    let last = parameter(uri, "last")
        .map(|text| super::route::digest(&text))
        .transpose()?;
    let (asked, of, wanted) = (name.clone(), subject.clone(), kinds.clone());
    let (descriptors, end, is_all) = server
        .blocking("listing referrers", move |shared| {
            let (mut found, mut end) = (Vec::new(), None);
            let size = RefCell::new(0);
            let is_all = shared.storage.referrers(
                &asked,
                &of,
                last.as_ref(),
                |_| *size.borrow() > REFERRERS_PAGE,
                |digest, descriptor| {
                    end = Some(digest.to_string());
                    let kind = descriptor["artifactType"].as_str();
                    if wanted.is_empty() || wanted.iter().any(|one| Some(one.as_str()) == kind) {
                        *size.borrow_mut() += descriptor.to_string().len();
                        found.push(descriptor);
                    }
                },
            )?;
            Ok((found, end, is_all))
        })
        .await?;
    let body = json!({
        "schemaVersion": 2,
        "mediaType": hoist_image::document::media_type::OCI_INDEX,
        "manifests": descriptors,
    });
    let mut response = json(StatusCode::OK, body.to_string());
    let headers = response.headers_mut();
    let kind = hoist_image::document::media_type::OCI_INDEX;
    headers.insert(header::CONTENT_TYPE, value(kind));
    if !kinds.is_empty() {
        headers.insert(
            HeaderName::from_static("oci-filters-applied"),
            value("artifactType"),
        );
    }
    if let (Some(end), false) = (end, is_all) {
        let path = format!("/v2/{name}/referrers/{subject}");
        let mut parameters: Vec<(&str, &str)> = kinds
            .iter()
            .map(|kind| ("artifactType", kind.as_str()))
            .collect();
        parameters.push(("last", &end));
        headers.insert(header::LINK, link(&path, &parameters));
    }
    Ok(response)
}
