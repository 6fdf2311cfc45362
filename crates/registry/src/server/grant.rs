//! `/token`: where clients exchange a password for a token (distribution's token specification; and its OAuth 2 form with a
//! password, as BuildKit asks).

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::access::{Here, Who, parse_scopes};
use super::failure::{Code, Failure};
use super::{Server, json, query};

/// Bytes a form may have.
const LARGEST_FORM: usize = 64 << 10;

pub(super) async fn answer(
    server: &Server,
    request: Request<Body>,
    here: &Here,
) -> Result<Response, Failure> {
    let control = &server.0.access;
    let (head, body) = request.into_parts();
    let who = control.who(&head.headers, here).await?;
    let mut fields: Vec<(String, String)> = query(&head.uri).collect();
    let is_form = head.method == Method::POST;
    if is_form {
        let wrong = |_| {
            Failure::new(Code::Unsupported, "the form did not come whole")
                .status(StatusCode::BAD_REQUEST)
        };
        let form = Limited::new(body, LARGEST_FORM)
            .collect()
            .await
            .map_err(wrong)?
            .to_bytes();
        fields = form_urlencoded::parse(&form).into_owned().collect();
    } else if head.method != Method::GET {
        return Err(Failure::new(
            Code::Unsupported,
            "tokens are asked for with GET or POST",
        ));
    }
    let field = |wanted: &str| {
        fields
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    let user = match who {
        Who::User(name) => Some(name),
        _ if is_form => {
            let (name, password) = (
                field("username").unwrap_or(""),
                field("password").unwrap_or(""),
            );
            if field("grant_type") != Some("password") || !control.check(name, password).await {
                return Err(Failure::new(
                    Code::Unauthorized,
                    "the name or the password is wrong",
                ));
            }
            Some(name.to_owned())
        }
        _ => None,
    };
    let scopes = fields
        .iter()
        .filter(|(name, _)| name == "scope")
        .map(|(_, value)| value.as_str());
    let asked = parse_scopes(scopes);
    let Some(granted) = control.grant(user.as_deref(), &asked) else {
        let text = "this registry gives no tokens";
        return Err(Failure::new(Code::Unsupported, text).status(StatusCode::NOT_FOUND));
    };
    let (token, seconds) = granted.map_err(|error| Failure::internal("making a token", &error))?;
    let body = json!({"token": token, "access_token": token, "expires_in": seconds, "token_type": "Bearer"});
    Ok(json(StatusCode::OK, body.to_string()))
}
