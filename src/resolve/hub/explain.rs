//! Explains failures of the hub, and what to do about them. Sends no request.

use super::client::Trouble;
use super::repo::Repo;
use super::settings::Settings;

/// Describes `trouble` with `repo` at `revision`, or with its `file`, in one sentence.
pub fn trouble(trouble: &Trouble, at: &Settings, repo: &Repo, revision: &str, file: Option<&str>) -> String {
    let endpoint = &at.endpoint;
    let page = format!("{endpoint}/{}", repo.page());
    let wanted = file.map_or_else(|| repo.to_string(), |file| format!("{file} of {repo}"));
    let (noun, name) = (repo.noun(), &repo.name);
    let (status, code, message) = match trouble {
        Trouble::Refused { status, code, message } => (*status, code.as_str(), message.as_str()),
        Trouble::Unreachable(why) => return format!("{endpoint} cannot be reached ({why})"),
        Trouble::Passing { why, .. } => {
            return format!("{wanted} could not be fetched from {endpoint} ({why})");
        }
    };
    let log_in =
        format!("log in with `hf auth login`, or set HF_TOKEN to a token from {endpoint}/settings/tokens");
    let invalid = message.contains("Invalid credentials") || message.contains("Invalid username or password");
    match (status, code, &at.token) {
        (_, "RevisionNotFound", _) => {
            format!("{repo} has no revision `{revision}`; its branches and tags are on {page}/tree/main")
        }
        (_, "EntryNotFound", _) => format!("{repo} at {revision} has no {}", file.unwrap_or("such file")),
        (401, _, Some(token)) if invalid || code.is_empty() => {
            format!(
                "{endpoint} rejects the token from {}, which was sent with the request for {wanted}: {log_in}",
                token.origin
            )
        }
        (_, "GatedRepo", None) => format!("{repo} is gated: accept its terms on {page}, then {log_in}"),
        (_, "GatedRepo", Some(token)) => format!(
            "{repo} is gated, and the token from {} has no access to it: accept its terms on {page} with that token's \
             account and wait until it is granted; a fine-grained token also needs the permission to read gated \
             repositories",
            token.origin
        ),
        (401, _, None) => format!(
            "{endpoint} shows no {repo} to someone who is not logged in: check the name on {page}; if it is gated or \
             private, accept its terms there, then {log_in}"
        ),
        (403, _, Some(token)) => format!(
            "the token from {} may not read {wanted}: ask for access on {page}, or give the token the permission to \
             read it{}",
            token.origin,
            said(message)
        ),
        (403, _, None) => format!(
            "{endpoint} does not give public access to {wanted}: see {page}, then {log_in}{}",
            said(message)
        ),
        (404, "RepoNotFound", None) => {
            format!("there is no {noun} {name} on {endpoint}; if it is private, {log_in}")
        }
        (_, "RepoNotFound", Some(token)) => format!(
            "there is no {noun} {name} on {endpoint} that the token from {} may see: check the name",
            token.origin
        ),
        (404, ..) => format!("{endpoint} has no {repo} with a revision `{revision}`: see {page}"),
        _ => format!("{endpoint} refuses {wanted} ({trouble})"),
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (the hub says: {message})") }
}
