//! The tags of a repository (distribution spec 1.1, "Listing Tags").

use std::sync::Arc;

use hoist_model::Repository;
use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::session::{Named, Session};
use crate::transport::Transport;

const PAGE_LIMIT: usize = 4 << 20;
/// Pages that one list may have.
const MOST_PAGES: usize = 1000;

impl Client {
    /// All tags, as the registry orders them.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn tags(
        &self,
        repository: &Repository,
        credentials: Option<Credentials>,
    ) -> Result<Vec<String>, PullError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let transport = Transport::new(Arc::clone(&self.0), repository.host());
        let session = Session::new(transport, repository, credentials);
        let protocol = |reason: String| PullError::Protocol {
            host: repository.host().to_owned(),
            reason,
        };
        let none = HeaderMap::new();
        let mut target = format!("/v2/{}/tags/list", repository.path());
        let mut tags = Vec::new();
        for _ in 0..MOST_PAGES {
            let asked = session.ask_patiently(Method::GET, &target, &none);
            let response = asked.await?;
            if response.status() != StatusCode::OK {
                let named = Named {
                    repository: repository.familiar(),
                    reference: repository.familiar(),
                };
                return Err(session.refused(&target, response, &named).await);
            }
            let next = next_page(response.headers());
            let mut body = response.into_body();
            let collected = body.collect_within(PAGE_LIMIT).await;
            let text = collected
                .map_err(|cause| PullError::Connection {
                    verb: "Get",
                    url: session.url(&target),
                    cause,
                })?
                .ok_or(PullError::TooLarge {
                    what: "list of tags",
                    limit: PAGE_LIMIT as u64,
                })?;
            let page: Page = serde_json::from_slice(&text)
                .map_err(|e| protocol(format!("its list of tags is none: {e}")))?;
            tags.extend(page.tags.into_iter().flatten());
            match next {
                Some(next) => target = next,
                None => return Ok(tags),
            }
        }
        Err(protocol(format!(
            "its list of tags has more than {MOST_PAGES} pages"
        )))
    }
}

/// The target of `Link: </v2/…>; rel="next"` (RFC 5988); only of the same server.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter();
    let mut links = links.filter_map(|link| link.to_str().ok());
    links.find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
        let after = target.find("://").map_or(Some(target), |scheme| {
            let rest = &target[scheme + 3..];
            rest.find('/').map(|path| &rest[path..])
        });
        after
            .filter(|path| next && path.starts_with('/'))
            .map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_next_page_is_on_the_same_server() {
        for (link, next) in [
            (
                "</v2/a/tags/list?last=b&n=2>; rel=\"next\"",
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            (
                "<https://r.example/v2/a/tags/list?last=b>; rel=next",
                Some("/v2/a/tags/list?last=b"),
            ),
            ("</v2/a/tags/list>; rel=\"prev\"", None),
            ("/v2/a/tags/list; rel=\"next\"", None),
            ("<https://r.example>; rel=\"next\"", None),
        ] {
            let headers = [(LINK, HeaderValue::from_static(link))]
                .into_iter()
                .collect();
            assert_eq!(next_page(&headers).as_deref(), next, "{link}");
        }
    }
}
