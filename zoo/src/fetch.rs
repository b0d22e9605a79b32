//! From a catalogue entry to verified bytes in the cache, or a clear error and nothing wrong kept.

use std::fs::File;
use std::io::{ErrorKind as IoKind, Read};
use std::path::Path;
use std::time::Duration;

use crate::http::{self, Again, Answer, Failure, Request};
use crate::lock::Lock;
use crate::partial::{Origin, Partial};
use crate::source::{Source, confirmed, hub_cached};
use crate::{Cache, Clock, Digest, Error, ErrorKind, Progress, Record, SourceFormat, SystemClock, Weight, retry};

/// No DenseNet is larger; a server could send for ever.
const MOST: u64 = 1 << 30;

/// How to fetch.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent answers of the caller, each with a plain default")]
pub struct FetchOptions<'a> {
    /// A file that the user has, instead of the network.
    pub from: Option<&'a Path>,
    /// Take what the server sends where no digest is known.
    pub trust_on_first_use: bool,
    /// Fetch again what is cached.
    pub force: bool,
    /// Open no connection: what is not at hand is an error.
    pub offline: bool,
    /// Where to look for a file by its name before the addresses of the catalogue.
    pub mirror: Option<&'a str>,
    /// How often an address is asked again after a failure that may pass.
    pub retries: u32,
    /// How long a server may be silent.
    pub stall: Duration,
    /// Whether processes that want the same file wait for each other.
    pub locks: bool,
    /// Time.
    pub clock: &'a dyn Clock,
}

impl Default for FetchOptions<'_> {
    fn default() -> Self {
        Self {
            from: None,
            trust_on_first_use: false,
            force: false,
            offline: false,
            mirror: None,
            retries: 4,
            stall: Duration::from_secs(60),
            locks: true,
            clock: &SystemClock,
        }
    }
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
    let cached = || Ok::<_, Error>(cache.record(&weight.name)?.filter(|record| is_as_expected(weight, record)));
    let wanted_anew = options.from.is_some() || options.force;
    if !wanted_anew && let Some(record) = cached()? {
        return Ok(record);
    }
    if options.from.is_none()
        && weight.file.digest.is_none()
        && weight.file.member.is_none()
        && cache.pinned(&weight.name)?.is_none()
        && !options.trust_on_first_use
    {
        let is_original = weight.format == SourceFormat::Torch7 && !weight.file.historic_urls.is_empty();
        let hint = if is_original { " (the original Torch7 links are dead)" } else { "" };
        return Err(Error::NoDigest { name: weight.name.clone(), hint });
    }
    let lock = if options.locks { Lock::wait(&cache.locks(), &weight.name, progress)? } else { Lock::none() };
    // Whoever held the lock may have fetched it.
    if !wanted_anew && let Some(record) = cached()? {
        return Ok(record);
    }
    let pinned = cache.pinned(&weight.name)?;
    let mut job = Job { weight, cache, options, pinned, alone: lock.is_held(), progress };
    if let Some(path) = options.from {
        return job.try_source(&Source::File(path.to_owned()), &path.display().to_string());
    }
    let mut errors = Vec::new();
    for url in addresses(weight, options) {
        let at_hand = hub_cached(&url);
        if let Some(path) = at_hand
            && let Ok(record) = job.try_source(&Source::File(path.clone()), &path.display().to_string())
        {
            return Ok(record);
        }
        match Source::of(&url).and_then(|source| job.try_source(&source, &url)) {
            Ok(record) => return Ok(record),
            // What is wrong here is wrong wherever the bytes come from.
            Err(error) if matches!(error, Error::Io { .. } | Error::NoSpace { .. }) => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    match (errors.pop(), errors.is_empty()) {
        (None, _) => Err(Error::NoAddress { name: weight.name.clone() }),
        // No server gave it. Two of these say already what to do.
        (Some(only), true)
            if only.kind() != ErrorKind::Network || matches!(only, Error::WebPage { .. } | Error::Offline { .. }) =>
        {
            Err(only)
        }
        (last, _) => {
            errors.extend(last);
            Err(Error::AllFailed { name: weight.name.clone(), errors })
        }
    }
}

/// The mirror's address first, then the catalogue's in their order.
fn addresses(weight: &Weight, options: &FetchOptions) -> Vec<String> {
    let mirror = options.mirror.map(|mirror| format!("{}/{}", mirror.trim_end_matches('/'), weight.file.name));
    mirror.into_iter().chain(weight.file.urls.iter().cloned()).collect()
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

/// One weight on its way.
struct Job<'j> {
    weight: &'j Weight,
    cache: &'j Cache,
    options: &'j FetchOptions<'j>,
    pinned: Option<Record>,
    /// Whether no other process is at work on it.
    alone: bool,
    progress: &'j mut dyn Progress,
}

impl Job<'_> {
    /// All of one source, judged, or the reason why not. `from` names it.
    fn try_source(&mut self, source: &Source, from: &str) -> Result<Record, Error> {
        if self.options.offline && !source.is_local() {
            return Err(Error::Offline { name: self.weight.name.clone() });
        }
        self.cache.room_for(self.weight.file.size)?;
        let (name, size) = (self.weight.name.clone(), self.weight.file.size);
        let partial = Partial::open(&self.cache.partials(), &name, self.weight.file.digest.as_ref(), self.alone)?;
        self.progress.start(&name, size);
        let outcome = match source {
            Source::Http { url, token } => self.download(partial, url, token.as_deref(), from),
            Source::File(path) => File::open(path)
                .map_err(Error::io("read", path))
                .and_then(|mut file| self.copy(partial, &mut file, from)),
            Source::Embedded(bytes) => self.copy(partial, &mut &bytes[..], from),
        };
        self.progress.finish();
        self.keep(outcome?, from)
    }

    /// A file at hand: from its beginning.
    fn copy(&mut self, mut partial: Partial, reader: &mut dyn Read, from: &str) -> Result<Partial, Error> {
        partial.clear()?;
        let outcome = self.pump(&mut partial, reader, from, true).map_err(|failure| failure.error);
        match outcome.and_then(|()| self.judge(&partial, from)) {
            Ok(()) => Ok(partial),
            Err(error) => {
                partial.discard();
                Err(error)
            }
        }
    }

    /// A file from a server: asked for again while that may help, and where what an earlier run left of it goes on.
    fn download(&mut self, mut partial: Partial, url: &str, token: Option<&str>, from: &str) -> Result<Partial, Error> {
        let mut url = url.to_owned();
        let mut failures = 0;
        let mut asked_form = false;
        // Whether all that is there came in this run, from this address.
        let mut fresh = partial.len() == 0;
        if !self.can_go_on(&partial, &url) {
            partial.clear()?;
            fresh = true;
        }
        self.progress.advance(partial.len());
        loop {
            let failure = match self.transfer(&mut partial, &url, token, from) {
                Ok(()) => match self.judge(&partial, from) {
                    Ok(()) => return Ok(partial),
                    // The beginning may have been another file's.
                    Err(_) if !fresh => {
                        partial.clear()?;
                        fresh = true;
                        continue;
                    }
                    Err(error) => {
                        partial.discard();
                        return Err(error);
                    }
                },
                Err(failure) => failure,
            };
            match failure.again {
                Again::Whole => {
                    partial.clear()?;
                    fresh = true;
                    failures += 1;
                    if failures > self.options.retries.max(1) {
                        return Err(failure.error);
                    }
                }
                Again::Later(asked) if failures < self.options.retries => {
                    failures += 1;
                    let Some(wait) = retry::wait(failures, asked, self.options.clock) else {
                        return Err(failure.error);
                    };
                    let seconds = wait.as_secs_f64();
                    self.progress.note(&format!("{}; asking again in {seconds:.1} s", failure.error));
                    self.options.clock.sleep(wait);
                }
                Again::Later(_) => return Err(failure.error),
                Again::No => {
                    let is_page = matches!(failure.error, Error::WebPage { .. });
                    if is_page && from.starts_with("gdrive:") && !asked_form {
                        asked_form = true;
                        if let Some(target) = confirmed(&url, self.options.stall)? {
                            url = target;
                            continue;
                        }
                    }
                    // What is of the wrong length or kind is no beginning of the right file.
                    if matches!(failure.error, Error::WebPage { .. } | Error::Length { .. }) {
                        partial.discard();
                    }
                    return Err(failure.error);
                }
            }
        }
    }

    /// Whether the rest can be added to what is there: the digest will tell, or the server, by what it called the file.
    fn can_go_on(&self, partial: &Partial, url: &str) -> bool {
        let strong = matches!(self.weight.file.digest, Some(Digest::Sha256(_))) || self.pinned.is_some();
        let origin = partial.origin();
        let fits = self.weight.file.size.is_none_or(|size| partial.len() <= size);
        fits && (strong || origin.url == url && origin.validator.is_some())
    }

    /// One request, and its body appended.
    fn transfer(&mut self, partial: &mut Partial, url: &str, token: Option<&str>, from: &str) -> Result<(), Failure> {
        let size = self.weight.file.size;
        // It was all there already.
        if size.is_some_and(|size| size > 0 && size == partial.len()) {
            return Ok(());
        }
        let never = |error| Failure { error, again: Again::No };
        let validator = Some(partial.origin()).filter(|origin| origin.url == url);
        let validator = validator.and_then(|origin| origin.validator.clone());
        let (have, validator, stall) = (partial.len(), validator.as_deref(), self.options.stall);
        let request = Request { url, token, from: have, validator, size, stall };
        let Answer { mut body, from: start, validator } = http::get(&request, self.options.clock.now())?;
        if start == 0 && have > 0 {
            partial.clear().map_err(never)?;
        }
        partial.set_origin(Origin { url: url.to_owned(), validator }).map_err(never)?;
        self.pump(partial, &mut body, from, false)
    }

    /// Moves all bytes, and refuses a web page and any other length than the right one on the way.
    fn pump(&mut self, partial: &mut Partial, reader: &mut dyn Read, from: &str, local: bool) -> Result<(), Failure> {
        let size = self.weight.file.size;
        let never = |error| Failure { error, again: Again::No };
        let length = |expected, received| Error::Length { source_name: from.to_owned(), expected, received, local };
        let limit = size.unwrap_or(MOST);
        let mut buffer = vec![0; 1 << 16];
        let mut head = Vec::new();
        let watch_head = partial.len() == 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == IoKind::Interrupted => continue,
                Err(error) if local => return Err(never(Error::io("read", Path::new(from))(error))),
                // A connection closed early is a short body where the length is known.
                Err(error) => {
                    let of = size.map_or(String::new(), |size| format!(" of {size}"));
                    let cause = http::chain(&error);
                    let reason = format!("the connection broke after {}{of} bytes: {cause}", partial.len());
                    return Err(Failure {
                        error: Error::Transfer { url: from.to_owned(), reason },
                        again: Again::Later(None),
                    });
                }
            };
            let chunk = buffer.get(..count).unwrap_or_default();
            if watch_head {
                head.extend(chunk.iter().take(64_usize.saturating_sub(head.len())));
                if (count == 0 || head.len() == 64) && is_web_page(&head) {
                    return Err(never(Error::WebPage { url: from.to_owned() }));
                }
            }
            if count == 0 {
                break;
            }
            if partial.len() + count as u64 > limit {
                return Err(never(length(limit, format!("at least {}", limit + 1))));
            }
            partial.append(chunk).map_err(never)?;
            self.progress.advance(count as u64);
        }
        match size {
            Some(size) if size != partial.len() => Err(never(length(size, partial.len().to_string()))),
            _ => Ok(()),
        }
    }

    /// Compares with the digest that is known, and with the pin.
    fn judge(&self, partial: &Partial, from: &str) -> Result<(), Error> {
        let hashed = partial.hashed();
        if let Some(expected) = &self.weight.file.digest
            && let Some(computed) = hashed.differs(expected)
        {
            return Err(Error::WrongDigest {
                source_name: from.to_owned(),
                strength: expected.strength(),
                expected: expected.digits().to_owned(),
                computed,
            });
        }
        match &self.pinned {
            Some(record) if record.original.sha256 != hashed.sha256 => Err(Error::Pin {
                name: self.weight.name.clone(),
                pinned: record.original.sha256.clone(),
                computed: hashed.sha256,
                path: self.cache.record_path(&self.weight.name),
            }),
            _ => Ok(()),
        }
    }

    /// Gives what was judged right its place.
    fn keep(&mut self, partial: Partial, from: &str) -> Result<Record, Error> {
        let weight = self.weight;
        let hashed = partial.hashed();
        let original = self.cache.keep(&partial.complete()?, &hashed, &weight.file.name)?;
        let digest_strength = match (&weight.file.digest, self.options.from, &self.pinned) {
            (Some(digest), ..) => digest.strength().to_owned(),
            (None, _, Some(pinned)) => pinned.digest_strength.clone(),
            // Of an archive, the file inside is compared before anything is made of it.
            (None, ..) if weight.file.member.is_some() => weight.digest_strength().to_owned(),
            (None, Some(_), None) => "none (pinned from a local file)".to_owned(),
            (None, None, None) => "none (trusted on first use)".to_owned(),
        };
        // Made from the same original, so still right, where it is still there.
        let converted = self.cache.record(&weight.name)?.and_then(|record| record.converted);
        let record =
            Record { name: weight.name.clone(), original, converted, source: from.to_owned(), digest_strength };
        self.cache.save(&record)?;
        Ok(record)
    }
}

fn is_web_page(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}
