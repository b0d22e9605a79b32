//! One `[[weight]]` of a TOML file, and what makes it a [`Weight`].

use densenet_arch::{Protocol, networks};
use serde::Deserialize;

use crate::weight::{Like, Member};
use crate::{Digest, Network, Published, SourceFormat, Weight, WeightFile};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub(super) struct Entry {
    pub(super) name: String,
    network: Network,
    #[serde(default)]
    recommended: bool,
    unverified: Option<String>,
    format: SourceFormat,
    file: File,
    protocol: ProtocolEntry,
    #[serde(default)]
    protocol_assumed: bool,
    #[serde(default = "yes")]
    bn_eps_stated: bool,
    licence: String,
    licence_id: Option<String>,
    provenance: String,
    #[serde(default)]
    published: Vec<Published>,
    notes: Option<String>,
    #[serde(default)]
    sources: Vec<String>,
    labels: Option<Vec<String>>,
    reference: Option<String>,
    /// Says no where the format is read and this file is not.
    #[serde(default = "yes")]
    convertible: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    historic_urls: Vec<String>,
    #[serde(default)]
    pages: Vec<String>,
    size: Option<u64>,
    size_note: Option<String>,
    sha256: Option<String>,
    sha256_prefix: Option<String>,
    sha384: Option<String>,
    sha1: Option<String>,
    md5: Option<String>,
    member: Option<MemberEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberEntry {
    name: String,
    sha256: Option<String>,
    sha1: Option<String>,
    md5: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a protocol is its name, or name, resize, crop, channels, range, mean and std")]
enum ProtocolEntry {
    Named(String),
    Described(Protocol),
}

fn yes() -> bool {
    true
}

impl Entry {
    pub(super) fn check(self) -> Result<Weight, String> {
        // Both become file names.
        if !is_plain(&self.name) {
            return Err("a name holds letters, digits, '.', '-' and '_' only, and starts with a letter or digit".into());
        }
        if self.recommended && self.unverified.is_some() {
            return Err("what nobody has verified is not to be recommended".into());
        }
        let protocol = match self.protocol {
            ProtocolEntry::Named(name) => Protocol::named(&name),
            ProtocolEntry::Described(protocol) => Protocol::from_text(&protocol.to_text()),
        }
        .map_err(|error| error.to_string())?;
        let convertible = self.convertible && self.format.is_read();
        match &self.network {
            Network::Named(name) if !convertible && networks::find(name).is_none() => {}
            Network::Named(name) | Network::Like(Like { like: name, .. }) if networks::find(name).is_none() => {
                return Err(format!("no network is called {name:?}"));
            }
            network => {
                if let Some(config) = network.config() {
                    config.validate().map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(Weight {
            name: self.name,
            network: self.network,
            recommended: self.recommended,
            unverified: self.unverified,
            format: self.format,
            file: self.file.check()?,
            protocol,
            protocol_assumed: self.protocol_assumed,
            bn_eps_stated: self.bn_eps_stated,
            licence: self.licence,
            licence_id: self.licence_id,
            provenance: self.provenance,
            published: self.published,
            notes: self.notes,
            sources: self.sources,
            labels: self.labels,
            reference: self.reference,
            convertible,
        })
    }
}

impl File {
    fn check(self) -> Result<WeightFile, String> {
        if !is_plain(&self.name) {
            return Err(format!("{:?} is not a plain file name", self.name));
        }
        if let Some(digits) = self.sha384.as_ref().filter(|digits| !is_hexadecimal(digits, 96)) {
            return Err(format!("{digits:?} is not a sha384 in lower-case hexadecimal"));
        }
        let mut digests = digests([
            self.sha256.map(Digest::Sha256),
            self.sha256_prefix.map(Digest::Sha256Prefix),
            self.sha1.map(Digest::Sha1),
            self.md5.map(Digest::Md5),
        ])?;
        let mut further = Vec::new();
        further.extend(self.sha384.map(|digits| ("sha384", digits)));
        further.extend(digests.iter().skip(1).map(|digest| (digest.strength(), digest.digits().to_owned())));
        digests.truncate(1);
        Ok(WeightFile {
            name: self.name,
            urls: self.urls,
            historic_urls: self.historic_urls,
            pages: self.pages,
            size: self.size,
            size_note: self.size_note,
            digest: digests.pop(),
            further_digests: further,
            member: self.member.map(MemberEntry::check).transpose()?,
        })
    }
}

impl MemberEntry {
    fn check(self) -> Result<Member, String> {
        let digests =
            digests([self.sha256.map(Digest::Sha256), self.sha1.map(Digest::Sha1), self.md5.map(Digest::Md5)])?;
        let digest = digests.into_iter().next();
        digest.map(|digest| Member { name: self.name, digest }).ok_or_else(|| "a member needs a digest".to_owned())
    }
}

/// Those that are there, strongest first.
fn digests<const N: usize>(stated: [Option<Digest>; N]) -> Result<Vec<Digest>, String> {
    let stated: Vec<_> = stated.into_iter().flatten().collect();
    match stated.iter().find(|digest| !digest.is_well_formed()) {
        Some(digest) => Err(format!("{:?} is not a {} in lower-case hexadecimal", digest.digits(), digest.strength())),
        None => Ok(stated),
    }
}

fn is_hexadecimal(digits: &str, length: usize) -> bool {
    digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "._-".contains(char))
}
