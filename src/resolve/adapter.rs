//! The adapter of a model: a folder, or a hub repository. Independent of the model that it changes.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::hub::{Hub, Snapshot, Wanted};
use super::{Fault, Reach};
use crate::config::problem::Problem;
use crate::config::{self, is_repo};
use crate::lm::adapter::AdapterFiles;

/// An adapter with known content; its weights may still be on the hub.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// The repository, or the folder as written in the experiment file.
    pub name: String,
    /// The hub's commit; `None` for a folder.
    pub commit: Option<String>,
    /// The model that it was trained on, according to its own configuration.
    pub made_for: Option<String>,
    /// Where its remaining files are; `None` for a folder.
    #[serde(skip)]
    pub(super) snapshot: Option<Snapshot>,
}

impl Adapter {
    /// Display text: its origin, and the model that it was trained on if that has another name than `model`.
    pub fn shown(&self, model: &str) -> String {
        let commit = self.commit.as_ref().map(|commit| format!(" at {}", &commit[..commit.len().min(7)]));
        let made_for = self.made_for_another(model).map(|other| format!(", which was made for `{other}`"));
        format!("{}{}{}", self.name, commit.unwrap_or_default(), made_for.unwrap_or_default())
    }

    /// The model that it was trained on, if that has another name than `model`: folders and owners may differ.
    pub fn made_for_another(&self, model: &str) -> Option<&str> {
        let last = |name: &str| name.trim_end_matches('/').rsplit('/').next().map(str::to_lowercase);
        self.made_for.as_deref().filter(|made_for| last(made_for) != last(model))
    }
}

/// The adapter that `asked` names, and its files; `None`: it is not on this machine.
pub(super) fn find(
    asked: &config::Adapter,
    root: &Path,
    hub: &Arc<Hub>,
    reach: Reach<'_>,
) -> Result<Option<(AdapterFiles, Adapter)>, Fault> {
    let wrong =
        |message: String, hint: String| Fault::Written(Problem::at(asked.span.clone(), message).hint(hint));
    let (files, name, snapshot) = if asked.path.is_dir() {
        if asked.revision.is_some() {
            return Err(wrong(
                format!("`{}` is a folder, which has no revision", asked.written),
                "remove `adapter_revision`; a folder's files are identified by their content".into(),
            ));
        }
        let shown = asked.path.strip_prefix(root).unwrap_or(&asked.path).display().to_string();
        (AdapterFiles::open(&asked.path, &[]).map_err(Fault::Found)?, shown, None)
    } else if is_repo(&asked.written) {
        let revision = asked.revision.as_deref().unwrap_or("main");
        let snapshot = match reach {
            Reach::Hub(progress) => {
                hub.pin(&asked.written, revision, Wanted::Adapter, progress).map_err(Fault::Found)?
            }
            Reach::Here => match hub.cached(&asked.written, revision, Wanted::Adapter) {
                Ok(snapshot) => snapshot,
                Err(_) => return Ok(None),
            },
        };
        let files = snapshot.adapter().map_err(Fault::Found)?;
        if let Reach::Hub(progress) = reach {
            let weights = std::slice::from_ref(&files.weights);
            snapshot.prepare_weights(weights, progress).map_err(Fault::Found)?;
        }
        (files, asked.written.clone(), Some(snapshot))
    } else {
        return Err(wrong(
            format!("no folder `{}`", asked.path.display()),
            format!(
                "relative paths start from the project folder, `{}`; a repository of the hub is `owner/name`",
                root.display()
            ),
        ));
    };
    let made_for = files.read_config().map_err(Fault::Found)?.base;
    let commit = snapshot.as_ref().map(|snapshot| snapshot.commit.clone());
    Ok(Some((files, Adapter { name, commit, made_for, snapshot })))
}

#[cfg(test)]
mod tests {
    use super::Adapter;

    #[test]
    fn a_model_of_another_name_is_said() {
        let made_for = |base: &str| Adapter {
            name: "a/b".into(),
            commit: Some("0123456789".into()),
            made_for: Some(base.into()),
            snapshot: None,
        };
        assert_eq!(made_for("unsloth/Llama-3").shown("meta-llama/llama-3"), "a/b at 0123456");
        assert_eq!(made_for("/home/me/Llama-3/").shown("models/Llama-3"), "a/b at 0123456");
        assert_eq!(made_for("x/gemma").shown("x/qwen"), "a/b at 0123456, which was made for `x/gemma`");
    }
}
