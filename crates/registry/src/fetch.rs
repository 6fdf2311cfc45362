//! A file of the web, for imports (API 1.55, `POST /images/create?fromSrc=http://…`).

use std::sync::Arc;

use hoist_http::client::ResponseBody;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Uri};

use crate::client::Client;
use crate::error::PullError;
use crate::origin::Origin;
use crate::transport::Transport;

const REFUSAL_LIMIT: usize = 4 << 10;

/// A file that is on its way.
#[derive(Debug)]
pub struct Fetched {
    /// Its bytes, if the server says how many.
    pub length: Option<u64>,
    /// What is read from.
    pub body: ResponseBody,
}

impl Client {
    /// Asks for a file; a URL without a scheme is `http`. Nobody's credentials are sent.
    ///
    /// # Errors
    /// [`PullError::InvalidUrl`], [`PullError::Fetch`] with what the server said, and whatever keeps us from asking.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, PullError> {
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        };
        let invalid = || PullError::InvalidUrl(url.clone());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let origin = Origin::of_uri(&uri).ok_or_else(invalid)?;
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let transport = Transport::new(Arc::clone(&self.0), &origin.authority());
        let none = HeaderMap::new();
        let (_, response) = transport.ask(&origin, Method::GET, target, &none).await?;
        let (parts, mut body) = response.into_parts();
        if parts.status.as_u16() >= 400 {
            let said = body.collect_within(REFUSAL_LIMIT).await;
            let said = said.ok().flatten().unwrap_or_default();
            return Err(PullError::Fetch {
                url,
                status: parts.status,
                said: String::from_utf8_lossy(&said).trim().to_owned(),
            });
        }
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|text| text.to_str().ok()?.parse().ok());
        Ok(Fetched { length, body })
    }
}
