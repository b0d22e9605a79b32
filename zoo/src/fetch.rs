//! From a catalogue entry to verified bytes in the cache, or a clear error and nothing kept.

use std::env;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Hashed, Hashing};
use crate::{Cache, Digest, Error, Progress, Record, Weight, embedded, http};

/// No DenseNet is larger; a server could send for ever.
const MOST: u64 = 1 << 30;

/// How to fetch.
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchOptions<'a> {
    /// A file that the user has, instead of the network.
    pub from: Option<&'a Path>,
    /// Take what the server sends where no digest is known.
    pub trust_on_first_use: bool,
    /// Fetch again what is cached.
    pub force: bool,
}

/// Where bytes come from.
enum Source {
    Http { url: String, token: Option<String> },
    File(PathBuf),
    Embedded(&'static [u8]),
}

/// Brings a weight's original file into the cache, verified by whatever digest is known and pinned by its sha256.
///
/// What is cached already, with the size and digest that the catalogue and the pin ask for, is returned without network
/// and not hashed again; [`verify`](crate::verify) does that.
pub fn fetch(
    weight: &Weight,
    cache: &Cache,
    options: &FetchOptions,
    progress: &mut dyn Progress,
) -> Result<Record, Error> {
    if options.from.is_none()
        && !options.force
        && let Some(record) = cache.record(&weight.name)?.filter(|record| is_as_expected(weight, record))
    {
        return Ok(record);
    }
    let pinned = cache.pinned(&weight.name)?;
    if let Some(path) = options.from {
        let name = path.display().to_string();
        return attempt(weight, cache, pinned.as_ref(), &name, options, progress);
    }
    if weight.file.digest.is_none() && pinned.is_none() && !options.trust_on_first_use {
        return Err(Error::NoDigest { name: weight.name.clone() });
    }
    let mut errors = Vec::new();
    for url in &weight.file.urls {
        match attempt(weight, cache, pinned.as_ref(), url, options, progress) {
            Ok(record) => return Ok(record),
            Err(error) => errors.push(error),
        }
    }
    match (errors.pop(), errors.is_empty()) {
        (Some(only), true) => Err(only),
        (last, _) => {
            errors.extend(last);
            Err(Error::AllFailed { name: weight.name.clone(), errors })
        }
    }
}

fn is_as_expected(weight: &Weight, record: &Record) -> bool {
    let object = &record.original;
    let size = std::fs::metadata(&object.path).map_or(0, |meta| meta.len());
    let digest = match &weight.file.digest {
        Some(Digest::Sha256(digits) | Digest::Sha256Prefix(digits)) => object.sha256.starts_with(digits),
        _ => true,
    };
    digest && size == object.size && weight.file.size.is_none_or(|expected| expected == size)
}

fn attempt(
    weight: &Weight,
    cache: &Cache,
    pinned: Option<&Record>,
    from: &str,
    options: &FetchOptions,
    progress: &mut dyn Progress,
) -> Result<Record, Error> {
    let source = match options.from {
        Some(path) => Source::File(path.to_owned()),
        None => source(from)?,
    };
    let local = !matches!(source, Source::Http { .. });
    let mut reader = open(&source, weight.file.size)?;
    let file = cache.temporary()?;
    let mut sink = Hashing::new(BufWriter::new(file), weight.file.digest.as_ref());
    progress.start(&weight.name, weight.file.size);
    let outcome = pump(&mut reader, &mut sink, from, weight.file.size, local, cache, progress);
    progress.finish();
    outcome?;
    let (buffer, hashed) = sink.finish().map_err(Error::io("write in", cache.dir()))?;
    check(weight, cache, pinned, &hashed, from)?;
    let file = buffer.into_inner().map_err(|error| Error::io("write in", cache.dir())(error.into_error()))?;
    let original = cache.keep(file, &hashed, &weight.file.name)?;
    let digest_strength = match (&weight.file.digest, options.from, pinned) {
        (Some(digest), ..) => digest.strength().to_owned(),
        (None, _, Some(pinned)) => pinned.digest_strength.clone(),
        (None, Some(_), None) => "none (pinned from a local file)".to_owned(),
        (None, None, None) => "none (trusted on first use)".to_owned(),
    };
    // Made from the same original, so still right, where it is still there.
    let converted = cache.record(&weight.name)?.and_then(|record| record.converted);
    let record = Record { name: weight.name.clone(), original, converted, source: from.to_owned(), digest_strength };
    cache.save(&record)?;
    Ok(record)
}

fn check(weight: &Weight, cache: &Cache, pinned: Option<&Record>, hashed: &Hashed, from: &str) -> Result<(), Error> {
    if let Some(expected) = &weight.file.digest
        && let Some(computed) = hashed.differs(expected)
    {
        return Err(Error::WrongDigest {
            source_name: from.to_owned(),
            strength: expected.strength(),
            expected: expected.digits().to_owned(),
            computed,
        });
    }
    match pinned {
        Some(record) if record.original.sha256 != hashed.sha256 => Err(Error::Pin {
            name: weight.name.clone(),
            pinned: record.original.sha256.clone(),
            computed: hashed.sha256.clone(),
            path: cache.record_path(&weight.name),
        }),
        _ => Ok(()),
    }
}

fn source(url: &str) -> Result<Source, Error> {
    let bad = |reason: &str| Error::Transfer { url: url.to_owned(), reason: reason.to_owned() };
    let (scheme, rest) = url.split_once(':').ok_or_else(|| bad("not a URL"))?;
    match scheme {
        "http" | "https" => Ok(Source::Http { url: url.to_owned(), token: None }),
        "hf" => {
            let parts = rest.split_once('@').and_then(|(repo, rest)| Some((repo, rest.split_once('/')?)));
            let (repo, (revision, file)) = parts.ok_or_else(|| bad("must be hf:org/repo@revision/file"))?;
            let url = format!("{}/{repo}/resolve/{revision}/{file}", hub_endpoint().trim_end_matches('/'));
            let token = env::var("HF_TOKEN").ok().filter(|token| !token.is_empty() && is_https(&url));
            Ok(Source::Http { url, token })
        }
        "file" => {
            let path = reqwest::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
            path.map(Source::File).ok_or_else(|| bad("must be file:///absolute/path"))
        }
        "embedded" => embedded(rest).map(Source::Embedded).ok_or_else(|| bad("no such embedded file")),
        _ => Err(bad("unknown kind of URL; use https:, http:, file:, hf: or embedded:")),
    }
}

/// Only such an address is given a secret.
fn is_https(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

fn hub_endpoint() -> String {
    #[cfg(feature = "hub")]
    if let Some(endpoint) = crate::hub::endpoint() {
        return endpoint;
    }
    env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty()).unwrap_or_else(|| "https://huggingface.co".to_owned())
}

fn open(source: &Source, size: Option<u64>) -> Result<Box<dyn Read>, Error> {
    Ok(match source {
        Source::Http { url, token } => Box::new(http::open(url, size, token.as_deref())?),
        Source::File(path) => Box::new(File::open(path).map_err(Error::io("read", path))?),
        Source::Embedded(bytes) => Box::new(*bytes),
    })
}

/// Moves all bytes, and refuses a web page and any other length than `size` on the way.
fn pump(
    reader: &mut dyn Read,
    sink: &mut impl Write,
    from: &str,
    size: Option<u64>,
    local: bool,
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let length = |expected, received| Error::Length { source_name: from.to_owned(), expected, received, local };
    let limit = size.unwrap_or(MOST);
    let mut buffer = vec![0; 1 << 16];
    let mut head = Vec::new();
    let mut received = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) if local => return Err(Error::io("read", Path::new(from))(error)),
            // A connection closed early is a short body where the length is known.
            Err(error) => {
                let of = size.map_or(String::new(), |size| format!(" of {size}"));
                let reason = format!("the connection broke after {received}{of} bytes: {error}");
                return Err(Error::Transfer { url: from.to_owned(), reason });
            }
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        head.extend(chunk.iter().take(64_usize.saturating_sub(head.len())));
        if (count == 0 || head.len() == 64) && is_web_page(&head) {
            return Err(Error::WebPage { url: from.to_owned() });
        }
        if count == 0 {
            break;
        }
        received += count as u64;
        if received > limit {
            return Err(length(limit, format!("at least {}", limit + 1)));
        }
        sink.write_all(chunk).map_err(Error::io("write in", cache.dir()))?;
        progress.advance(count as u64);
    }
    match size {
        Some(size) if size != received => Err(length(size, received.to_string())),
        _ => Ok(()),
    }
}

fn is_web_page(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}
