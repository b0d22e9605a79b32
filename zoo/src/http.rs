//! One GET: redirects, timeouts and what the headers already give away.

use std::io::Read;
use std::sync::Once;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::redirect::Policy;

use crate::Error;

/// Opens a URL for reading. `size` is the length that the body must have, `token` goes to this URL's host only.
pub(crate) fn open(url: &str, size: Option<u64>, token: Option<&str>) -> Result<impl Read + use<>, Error> {
    let failed = |error: &reqwest::Error| Error::Transfer { url: url.to_owned(), reason: chain(error) };
    let mut request = client().map_err(|error| failed(&error))?.get(url).header(ACCEPT_ENCODING, "identity");
    if let Some(token) = token {
        // reqwest drops it when a redirect leaves the host.
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = request.send().map_err(|error| failed(&error))?;
    if !response.status().is_success() {
        return Err(Error::Status { url: url.to_owned(), status: response.status().to_string() });
    }
    if header(&response, CONTENT_TYPE.as_str()).is_some_and(|kind| kind.trim_start().starts_with("text/html")) {
        return Err(Error::WebPage { url: url.to_owned() });
    }
    let length = header(&response, CONTENT_LENGTH.as_str()).and_then(|length| length.trim().parse::<u64>().ok());
    match (size, length) {
        (Some(expected), Some(length)) if expected != length => Err(Error::Length {
            source_name: url.to_owned(),
            expected,
            received: format!("the announcement of {length}"),
            local: false,
        }),
        _ => Ok(response),
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_ascii_lowercase())
}

fn client() -> reqwest::Result<Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only where the program has installed one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let policy = Policy::custom(|attempt| {
        let downgrade =
            attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
        match attempt.previous().len() {
            _ if downgrade => attempt.error("a redirect from https to http is not followed"),
            ..=10 => attempt.follow(),
            _ => attempt.error("more than 10 redirects"),
        }
    });
    Client::builder()
        .user_agent(concat!("densenet-zoo/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(30))
        // For the headers, then for each read of the body: a stall, not the whole transfer.
        .timeout(Duration::from_secs(60))
        .redirect(policy)
        .build()
}

/// The error with its causes, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
