//! From the address in a catalogue to where bytes can be read.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, embedded, http};

/// Where bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    Http {
        url: String,
        token: Option<String>,
    },
    /// `from`: who has it, for messages.
    File(PathBuf),
    Embedded(&'static [u8]),
}

/// Where Google serves the files of its Drive.
const GDRIVE: &str = "https://drive.usercontent.google.com";

impl Source {
    /// `https:`, `http:`, `file:`, `embedded:PATH`, `hf:org/repo@revision/file`, `gdrive:ID`.
    pub(crate) fn of(url: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Transfer { url: url.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = url.split_once(':').ok_or_else(|| bad("not a URL"))?;
        match scheme {
            "http" | "https" => Ok(Self::Http { url: url.to_owned(), token: None }),
            "hf" => {
                let Hub { repo, revision, file } =
                    Hub::of(rest).ok_or_else(|| bad("must be hf:org/repo@revision/file"))?;
                let url = format!("{}/{repo}/resolve/{revision}/{file}", hub_endpoint().trim_end_matches('/'));
                let token = hub_token().filter(|_| is_https(&url));
                Ok(Self::Http { url, token })
            }
            "gdrive" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                if rest.is_empty() || !rest.chars().all(plain) {
                    return Err(bad("must be gdrive:ID"));
                }
                let base = env::var("DENSENET_ZOO_GDRIVE").ok().filter(|url| !url.is_empty());
                let base = base.unwrap_or_else(|| GDRIVE.to_owned());
                let url = format!("{}/download?id={rest}&export=download", base.trim_end_matches('/'));
                Ok(Self::Http { url, token: None })
            }
            "file" => {
                let path = reqwest::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
                path.map(Self::File).ok_or_else(|| bad("must be file:///absolute/path"))
            }
            "embedded" => embedded(rest).map(Self::Embedded).ok_or_else(|| bad("no such embedded file")),
            _ => Err(bad("unknown kind of URL; use https:, http:, file:, hf:, gdrive: or embedded:")),
        }
    }

    /// Whether it needs no network.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self, Self::Http { .. })
    }
}

/// `org/repo@revision/file`
struct Hub<'a> {
    repo: &'a str,
    revision: &'a str,
    file: &'a str,
}

impl<'a> Hub<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (repo, rest) = text.split_once('@')?;
        let (revision, file) = rest.split_once('/')?;
        Some(Self { repo, revision, file })
    }
}

/// The file in the cache of Hugging Face's own client, if it is there: `models--org--repo/snapshots/REVISION/file`, the
/// revision by its name in `refs` or its hash. It is verified like any other.
pub(crate) fn hub_cached(url: &str) -> Option<PathBuf> {
    let Hub { repo, revision, file } = Hub::of(url.strip_prefix("hf:")?)?;
    let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(hub_home()?.join("hub")))?;
    let model = cache.join(format!("models--{}", repo.replace('/', "--")));
    let named = std::fs::read_to_string(model.join("refs").join(revision)).ok();
    let commit = named.as_deref().map_or(revision, str::trim);
    // A revision is a name or a hash; no path.
    let path = model.join("snapshots").join(commit.replace(['/', '\\'], "_")).join(file);
    path.is_file().then_some(path)
}

/// Google asks to confirm the download of a large file by a form, on the same host. Its address with its hidden fields.
pub(crate) fn confirmed(url: &str, stall: Duration) -> Result<Option<String>, Error> {
    let page = http::page(url, stall)?;
    Ok(form(url, &page))
}

fn form(url: &str, page: &str) -> Option<String> {
    let asked = reqwest::Url::parse(url).ok()?;
    let start = page.find("<form")?;
    let form = page.get(start..)?;
    let form = form.get(..form.find("</form")?)?;
    let mut target = asked.join(&attribute(form, "action")?).ok()?;
    if target.host() != asked.host() || target.port() != asked.port() || target.scheme() != asked.scheme() {
        return None;
    }
    for input in form.split("<input").skip(1) {
        let input = input.split('>').next().unwrap_or_default();
        if let (Some(name), Some(value)) = (attribute(input, "name"), attribute(input, "value")) {
            target.query_pairs_mut().append_pair(&name, &value);
        }
    }
    Some(target.into())
}

/// The value of `name="…"`.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.replace("&amp;", "&"))
}

/// Only such an address is given a secret.
fn is_https(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

/// `HF_TOKEN`, else what `hf auth login` keeps in a file.
fn hub_token() -> Option<String> {
    let home = || hub_home().map(|home| home.join("token"));
    let kept = || std::fs::read_to_string(set("HF_TOKEN_PATH").map(PathBuf::from).or_else(home)?).ok();
    let token = set("HF_TOKEN").and_then(|token| token.into_string().ok()).or_else(kept)?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// A variable that is not empty.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Where Hugging Face's own client keeps its things.
fn hub_home() -> Option<PathBuf> {
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface"));
    set("HF_HOME").map(PathBuf::from).or_else(home)
}

fn hub_endpoint() -> String {
    env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty()).unwrap_or_else(|| "https://huggingface.co".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_on_with_its_hidden_fields_and_never_to_another_host() {
        let page = |action: &str| {
            format!(
                "<html><form id=\"download-form\" action=\"{action}\" method=\"get\"><input type=\"hidden\" name=\"id\" \
                 value=\"1a_B\"><input type=\"hidden\" name=\"confirm\" value=\"t\"><input type=\"submit\"></form></html>"
            )
        };
        let url = "http://127.0.0.1:9/download?id=1a_B";
        assert_eq!(form(url, &page("/get?x=1&amp;y=2")).unwrap(), "http://127.0.0.1:9/get?x=1&y=2&id=1a_B&confirm=t");
        assert_eq!(form(url, &page("http://127.0.0.2:9/get")), None);
        assert_eq!(form(url, &page("https://127.0.0.1:9/get")), None);
        assert_eq!(form(url, "<html>Sign in</html>"), None);
    }

    #[test]
    fn addresses_are_what_they_say() {
        assert!(
            matches!(Source::of("gdrive:1a_B-c"), Ok(Source::Http { url, token: None }) if url.ends_with("?id=1a_B-c&export=download"))
        );
        for bad in ["gdrive:", "gdrive:a&b", "hf:org/repo/file", "ftp://x/y", "x"] {
            assert!(Source::of(bad).is_err(), "{bad}");
        }
        assert!(Source::of("embedded:digits/model_best.t7").unwrap().is_local());
    }
}
