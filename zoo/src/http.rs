//! One GET: redirects, timeouts, ranges, and what the headers already give away.

use std::io::Read;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::Error;
use crate::retry::retry_after;

/// What is asked for.
pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    /// Goes to this URL's host only.
    pub(crate) token: Option<&'a str>,
    /// Bytes that are there already.
    pub(crate) from: u64,
    /// What the file must still be for its rest to be of use; needs no naming where the digest will tell.
    pub(crate) validator: Option<&'a str>,
    /// The length of the whole file, where it is known.
    pub(crate) size: Option<u64>,
    /// For connecting, for the headers, and for each read of the body: a stall, not the whole transfer.
    pub(crate) stall: Duration,
}

/// What came.
pub(crate) struct Answer {
    pub(crate) body: Response,
    /// Where in the file the body begins: where it was asked to, or at 0.
    pub(crate) from: u64,
    /// A strong ETag or a date, by which the rest can be asked for later.
    pub(crate) validator: Option<String>,
}

/// A failure, and whether asking again may help.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    No,
    /// After a wait, of this length if the server says so.
    Later(Option<Duration>),
    /// At once, for the whole file: the rest cannot be had.
    Whole,
}

/// Sends one request. `now` is what a date in Retry-After is compared with.
pub(crate) fn get(request: &Request, now: SystemTime) -> Result<Answer, Failure> {
    let url = request.url;
    let transfer = |reason: String| Error::Transfer { url: url.to_owned(), reason };
    let never = |error| Failure { error, again: Again::No };
    let client = client(request.stall).map_err(|error| never(transfer(chain(&error.without_url()))))?;
    let mut builder = client.get(url).header(ACCEPT_ENCODING, "identity");
    if let Some(token) = request.token {
        // reqwest drops it when a redirect leaves the host.
        builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if request.from > 0 {
        builder = builder.header(RANGE, format!("bytes={}-", request.from));
        if let Some(validator) = request.validator {
            builder = builder.header(IF_RANGE, validator);
        }
    }
    let response = builder.send().map_err(|error| {
        let again = if error.is_redirect() || error.is_builder() { Again::No } else { Again::Later(None) };
        Failure { error: transfer(chain(&error.without_url())), again }
    })?;
    let status = response.status();
    if request.from > 0 && status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Err(Failure { error: transfer("the server has no such range".into()), again: Again::Whole });
    }
    if !status.is_success() {
        let again = if matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504) {
            Again::Later(header(&response, RETRY_AFTER.as_str()).and_then(|text| retry_after(&text, now)))
        } else {
            Again::No
        };
        return Err(Failure { error: Error::Status { url: url.to_owned(), status: status.to_string() }, again });
    }
    if header(&response, CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
    {
        return Err(never(Error::WebPage { url: url.to_owned() }));
    }
    if let Some(coding) = header(&response, CONTENT_ENCODING.as_str()).filter(|coding| coding.trim() != "identity") {
        return Err(never(transfer(format!(
            "the server packs the file ({}) though it was asked not to",
            coding.trim()
        ))));
    }
    let from = match (status, header(&response, CONTENT_RANGE.as_str())) {
        (StatusCode::PARTIAL_CONTENT, Some(range)) if starts_at(&range, request.from, request.size) => request.from,
        (StatusCode::PARTIAL_CONTENT, range) => {
            let range = range.unwrap_or_else(|| "no range at all".into());
            let reason = format!("asked for the bytes from {}, the server sends {range}", request.from);
            let again = if request.from > 0 { Again::Whole } else { Again::No };
            return Err(Failure { error: transfer(reason), again });
        }
        _ => 0,
    };
    let length = header(&response, CONTENT_LENGTH.as_str()).and_then(|length| length.trim().parse::<u64>().ok());
    if let (Some(expected), Some(length)) = (request.size, length)
        && from.saturating_add(length) != expected
    {
        let received = format!("the announcement of {}", from.saturating_add(length));
        return Err(never(Error::Length { source_name: url.to_owned(), expected, received, local: false }));
    }
    let etag = header(&response, ETAG.as_str()).filter(|etag| !etag.trim_start().starts_with("W/"));
    let validator = etag.or_else(|| header(&response, LAST_MODIFIED.as_str()));
    // The rest of another file is no rest of this one, whatever If-Range asked for.
    if from > 0
        && let (Some(before), Some(now)) = (request.validator, &validator)
        && before.starts_with('"') == now.starts_with('"')
        && before != now
    {
        return Err(Failure { error: transfer("the file has changed at the server".into()), again: Again::Whole });
    }
    Ok(Answer { body: response, from, validator })
}

/// `bytes 100-999/1000` for what was asked.
fn starts_at(range: &str, from: u64, size: Option<u64>) -> bool {
    let parsed = range.trim().strip_prefix("bytes ").and_then(|rest| {
        let (span, total) = rest.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, total.parse::<u64>().ok()))
    });
    parsed.is_some_and(|(first, last, total)| {
        let whole = size.or(total);
        first == from
            && whole.is_none_or(|whole| last.checked_add(1) == Some(whole))
            && (size.is_none() || total.is_none() || total == size)
    })
}

fn header(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

fn client(stall: Duration) -> reqwest::Result<Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only where the program has installed one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let policy = Policy::custom(|attempt| match refused(attempt.previous(), attempt.url()) {
        None => attempt.follow(),
        Some(reason) => attempt.error(reason),
    });
    Client::builder()
        .user_agent(concat!("densenet-zoo/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(stall)
        .timeout(stall)
        .redirect(policy)
        .build()
}

/// Why a redirect is not followed, if it is not. `previous` begins with what was asked for.
fn refused(previous: &[Url], next: &Url) -> Option<&'static str> {
    if next.scheme() != "https" && previous.iter().any(|url| url.scheme() == "https") {
        return Some("a redirect from https to http is not followed");
    }
    (previous.len() > 10).then_some("more than 10 redirects")
}

/// A page, read to a limit: what a form on it asks for.
pub(crate) fn page(url: &str, stall: Duration) -> Result<String, Error> {
    const MOST: u64 = 1 << 20;
    let failed = |reason: String| Error::Transfer { url: url.to_owned(), reason };
    let response =
        client(stall).and_then(|client| client.get(url).send()).map_err(|error| failed(chain(&error.without_url())))?;
    let mut text = Vec::new();
    response.take(MOST).read_to_end(&mut text).map_err(|error| failed(error.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The error with its causes, in a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leaves_https_and_none_goes_on_for_ever() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (plain, safe) = (url("http://127.0.0.1/a"), url("https://127.0.0.1/a"));
        assert_eq!(refused(std::slice::from_ref(&plain), &safe), None);
        assert_eq!(refused(std::slice::from_ref(&safe), &safe), None);
        let reason = Some("a redirect from https to http is not followed");
        assert_eq!(refused(std::slice::from_ref(&safe), &plain), reason);
        assert_eq!(refused(&[plain.clone(), safe], &plain), reason);
        assert_eq!(refused(&vec![plain.clone(); 10], &plain), None);
        assert_eq!(refused(&vec![plain.clone(); 11], &plain), Some("more than 10 redirects"));
    }

    #[test]
    fn a_range_must_be_the_rest_of_the_file() {
        assert!(starts_at("bytes 100-999/1000", 100, Some(1000)));
        assert!(starts_at("bytes 100-999/*", 100, Some(1000)));
        assert!(starts_at("bytes 100-999/1000", 100, None));
        for wrong in [
            "bytes 101-999/1000",
            "bytes 0-999/1000",
            "bytes 100-998/1000",
            "bytes 100-1000/1001",
            "bytes 100-999/1001",
            "bytes */1000",
            "100-999/1000",
            "bytes 100-18446744073709551615/*",
        ] {
            assert!(!starts_at(wrong, 100, Some(1000)), "{wrong}");
        }
    }
}
