//! The Hugging Face Hub through its own client: where it is.

/// The Hub's address as its client resolves it.
pub(crate) fn endpoint() -> Option<String> {
    Some(hf_hub::HFClient::new().ok()?.endpoint().to_owned())
}
