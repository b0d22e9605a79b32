//! What a repository of the Hugging Face Hub holds, through the Hub's own client: it knows the address (`HF_ENDPOINT`), the token
//! (`HF_TOKEN`, or the one that `hf auth login` keeps) and the pages of a long list. The bytes take our path.

use hf_hub::HFClient;
use hf_hub::repository::RepoTreeEntry;

use crate::Error;

/// A file in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Its path there.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Its sha256, which the Hub knows of large files.
    pub sha256: Option<String>,
    /// Its address in a catalogue: `hf:org/repo@revision/path`.
    pub address: String,
}

/// The files of `org/repo` or `org/repo@revision`, by path.
pub fn list(repository: &str) -> Result<Vec<HubFile>, Error> {
    let failed = |reason: String| Error::Transfer { url: format!("hf:{repository}"), reason };
    let (name, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    let Some((owner, repo)) = name.split_once('/').filter(|(owner, repo)| !owner.is_empty() && !repo.is_empty()) else {
        return Err(failed("must be org/repo or org/repo@revision".into()));
    };
    // An error's first line says it; the client puts the server's page behind.
    let text = |error: hf_hub::HFError| failed(error.to_string().lines().next().unwrap_or_default().to_owned());
    let client = HFClient::builder().build_sync().map_err(text)?;
    let entries = client.model(owner, repo).list_tree().revision(revision).recursive(true).send().map_err(text)?;
    let files = entries.into_iter().filter_map(|entry| match entry {
        RepoTreeEntry::File { path, size, lfs, .. } => {
            let address = format!("hf:{name}@{revision}/{path}");
            Some(HubFile { size, sha256: lfs.and_then(|lfs| lfs.sha256), address, path })
        }
        RepoTreeEntry::Directory { .. } => None,
    });
    let mut files: Vec<_> = files.collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
