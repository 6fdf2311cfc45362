//! Files of the web: for imports (API 1.55, `POST /images/create?fromSrc=http://…`) and for what a Dockerfile's ADD names by an address.

use std::sync::Arc;

use hoist_http::client::{RequestBody, ResponseBody};
use http::header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};

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
    /// What the server calls this state of it (RFC 9110, section 8.8.3), with its quotes.
    pub etag: Option<String>,
    /// When it was last changed, in seconds since 1970.
    pub modified: Option<i64>,
    /// What is read from.
    pub body: ResponseBody,
}

/// Where a URL leads.
struct Place {
    url: String,
    origin: Origin,
    target: String,
}

impl Place {
    fn of(url: &str) -> Result<Self, PullError> {
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        };
        let invalid = || PullError::InvalidUrl(url.clone());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let origin = Origin::of_uri(&uri).ok_or_else(invalid)?;
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let target = target.to_owned();
        Ok(Self {
            url,
            origin,
            target,
        })
    }
}

impl Client {
    /// Asks for a file; a URL without a scheme is `http`. Nobody's credentials are sent.
    ///
    /// # Errors
    /// [`PullError::InvalidUrl`], [`PullError::Fetch`] with what the server said, and whatever keeps us from asking.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, PullError> {
        let place = Place::of(url)?;
        let response = self.ask(&place, &HeaderMap::new()).await?;
        Ok(fetched(accepted(&place, response).await?))
    }

    /// The same, unless it is in the state still that the server called `etag`.
    ///
    /// # Errors
    /// As of [`Client::fetch`].
    pub async fn fetch_changed(
        &self,
        url: &str,
        etag: Option<&str>,
    ) -> Result<Option<Fetched>, PullError> {
        let place = Place::of(url)?;
        let mut headers = HeaderMap::new();
        if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        let response = self.ask(&place, &headers).await?;
        if response.status() == StatusCode::NOT_MODIFIED && etag.is_some() {
            return Ok(None);
        }
        let fetched = fetched(accepted(&place, response).await?);
        // Some servers name the state and send it all the same.
        let is_same = etag.is_some() && fetched.etag.as_deref() == etag;
        Ok((!is_same).then_some(fetched))
    }

    /// Asks with headers, and a body if there is one. Redirects are followed where there is none.
    ///
    /// # Errors
    /// As of [`Client::fetch`].
    pub async fn exchange(
        &self,
        url: &str,
        headers: &[(HeaderName, &'static str)],
        body: Option<RequestBody>,
    ) -> Result<ResponseBody, PullError> {
        let place = Place::of(url)?;
        let headers = headers.iter().cloned();
        let headers: HeaderMap = headers
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect();
        let response = match body {
            None => self.ask(&place, &headers).await?,
            Some(body) => {
                let transport = self.transport(&place);
                let (origin, target) = (&place.origin, &place.target);
                transport
                    .send(origin, Method::POST, target, &headers, body)
                    .await?
            }
        };
        Ok(accepted(&place, response).await?.into_body())
    }

    fn transport(&self, place: &Place) -> Transport {
        Transport::new(Arc::clone(&self.0), &place.origin.authority())
    }

    async fn ask(
        &self,
        place: &Place,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, PullError> {
        let transport = self.transport(place);
        let asked = transport.ask(&place.origin, Method::GET, &place.target, headers);
        Ok(asked.await?.1)
    }
}

async fn accepted(
    place: &Place,
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, PullError> {
    if response.status().as_u16() < 400 {
        return Ok(response);
    }
    let (parts, mut body) = response.into_parts();
    let said = body.collect_within(REFUSAL_LIMIT).await;
    let said = said.ok().flatten().unwrap_or_default();
    Err(PullError::Fetch {
        url: place.url.clone(),
        status: parts.status,
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

fn fetched(response: Response<ResponseBody>) -> Fetched {
    let (parts, body) = response.into_parts();
    let text = |name| parts.headers.get(name)?.to_str().ok();
    Fetched {
        length: text(CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        etag: text(ETAG).map(str::to_owned),
        modified: text(LAST_MODIFIED).and_then(seconds),
        body,
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7) in seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = text.split_once(", ")?;
    let words: Vec<&str> = date.split(' ').collect();
    let [day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let number = |text: &str, most: i64| {
        let number = text.parse::<i64>().ok()?;
        (0..=most).contains(&number).then_some(number)
    };
    let month = MONTHS.iter().position(|name| name == month)?;
    let month = i64::try_from(month).ok()? + 1;
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let mut clock = time.split(':').map(|part| number(part, 60));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days of the proleptic Gregorian calendar, years beginning in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            seconds("Thu, 29 Feb 2024 23:59:59 GMT"),
            Some(1_709_251_199)
        );
        for wrong in [
            "",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Non 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
