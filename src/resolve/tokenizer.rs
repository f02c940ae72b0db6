//! A tokenizer that replaces the checkpoint's own: a folder, or a hub repository. Does not read it.

use std::sync::Arc;

use serde::Serialize;

use super::hub::Hub;
use super::{Fault, Reach};
use crate::config::problem::Problem;
use crate::config::{self, Asked};
use crate::lm::checkpoint::TokenizerFiles;

/// A tokenizer that replaces a checkpoint's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherTokenizer {
    /// The repository, or the folder as written in the experiment file.
    pub name: String,
    /// The hub's commit; `None` for a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// The files of a replacement tokenizer; `None`: it is not on this machine.
pub fn find(
    named: &config::OtherTokenizer,
    asked: &Asked,
    hub: &Arc<Hub>,
    reach: Reach<'_>,
) -> Result<Option<(TokenizerFiles, OtherTokenizer)>, Fault> {
    let from = |commit| OtherTokenizer { name: named.written.clone(), commit };
    if named.path.is_dir() {
        let files = TokenizerFiles::open(&named.path, &[]).map_err(Fault::Found)?;
        return Ok(Some((files, from(None))));
    }
    let parts: Vec<&str> = named.written.split('/').collect();
    if parts.len() != 2 || parts.iter().any(|part| part.is_empty() || part.starts_with('.')) {
        let problem = Problem::at(named.span.clone(), format!("no folder `{}`", named.path.display()));
        return Err(Fault::Written(problem.hint(format!(
            "relative paths start from the project folder, `{}`; a repository of the hub is `owner/name`",
            asked.root.display()
        ))));
    }
    match reach {
        Reach::Hub(progress) => {
            let (files, commit) = hub.tokenizer(&named.written, Some(progress)).map_err(Fault::Found)?;
            Ok(Some((files, from(Some(commit)))))
        }
        Reach::Here => {
            let found = hub.tokenizer(&named.written, None).ok();
            Ok(found.map(|(files, commit)| (files, from(Some(commit)))))
        }
    }
}
