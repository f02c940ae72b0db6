//! Detection and masking of keys and passwords, which must never be written anywhere.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Secrets by their form: keys of OpenAI and similar services (`sk-`), Hugging Face, GitHub and AWS; the value after
/// `Bearer`; name and password in a URL.
static FORMS: LazyLock<Regex> = LazyLock::new(|| {
    let forms = [
        r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}",
        r"\b(?:hf|gsk|xai|ghp|gho|ghs|xoxb|github_pat|glpat)[_-][A-Za-z0-9_-]{12,}",
        r"\bAKIA[A-Z0-9]{16}\b",
        r"(?i-u:\bbearer\s+)(?P<bearer>[A-Za-z0-9._~+/=-]{8,})",
        r"://(?P<login>[^\s/@:]+:[^\s/@]+)@",
    ];
    Regex::new(&forms.join("|")).expect("a pattern")
});

/// Secrets by the name of their field, in TOML, JSON, a header or a query string.
static VALUES: LazyLock<Regex> = LazyLock::new(|| {
    let names = "api[_-]?key|access[_-]?token|auth[_-]?token|token|password|passwd|secret|authorization";
    let pattern = format!(
        r#"(?:^|[\s\x22'`{{,.?&])(?i-u:{names})[\x22'`]?\s*[=:]\s*[\x22']?(?P<value>[^\s\x22'\\,;&}}\]`]+)"#
    );
    Regex::new(&pattern).expect("a pattern")
});

/// The names of [`VALUES`], matched against the full name of a field.
static NAMES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?i-u:api[_-]?key|access[_-]?token|auth[_-]?token|token|password|passwd|secret|authorization)$",
    )
    .expect("a pattern")
});

/// The text with each secret replaced by `*`, one per character.
pub fn masked(text: &str) -> Cow<'_, str> {
    let stars = |found: &Captures<'_>, groups: &[&str]| {
        let all = found.get(0).expect("what was found");
        let (whole, start) = (all.as_str(), all.start());
        let part = groups.iter().find_map(|group| found.name(group)).unwrap_or(all);
        let (from, to) = (part.start() - start, part.end() - start);
        format!("{}{}{}", &whole[..from], "*".repeat(whole[from..to].chars().count()), &whole[to..])
    };
    match FORMS.replace_all(text, |found: &Captures<'_>| stars(found, &["bearer", "login"])) {
        Cow::Borrowed(text) => VALUES.replace_all(text, |found: &Captures<'_>| stars(found, &["value"])),
        Cow::Owned(text) => Cow::Owned(
            VALUES.replace_all(&text, |found: &Captures<'_>| stars(found, &["value"])).into_owned(),
        ),
    }
}

/// Whether a field of a request or of the experiment file holds a secret.
pub fn is_secret(field: &str, value: &str) -> bool {
    FORMS.is_match(value) || (NAMES.is_match(field) && !value.trim().is_empty())
}

/// Whether an environment variable holds a secret: by the form of the value, or by a word in the name. A path to a
/// file, as in `HF_TOKEN_PATH`, does not count.
pub fn is_secret_variable(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    let is_named = has(&["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS"]);
    // Of any length, unlike in running text.
    let begins = ["hf_", "sk-", "ghp_", "xoxb-", "AKIA"].iter().any(|start| value.starts_with(start));
    begins || FORMS.is_match(value) || (is_named && !has(&["PATH", "FILE"]) && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_masked_and_nothing_else() {
        for (text, shown) in [
            ("key sk-abcdefghijkl1234.", "key *******************."),
            ("HF_TOKEN=hf_abcdefghijklmnop", "HF_TOKEN=*******************"),
            ("Authorization: Bearer abcdefgh.ijk", "Authorization: ****** ************"),
            ("http://me:word@host/v1", "http://*******@host/v1"),
            ("api_key = \"short\" # mine", "api_key = \"*****\" # mine"),
            ("{\"password\": \"pä\", \"n\": 1}", "{\"password\": \"**\", \"n\": 1}"),
            ("--set stories.a.openai.body.token=abc", "--set stories.a.openai.body.token=***"),
        ] {
            assert_eq!(masked(text), shown);
        }
        for text in [
            "from_token = 50",
            "max_new_tokens = 256, batch_tokens = 1",
            "api_key_env = \"OPENAI_API_KEY\"",
            "stories/sk-1: 3 of 4",
            "http://127.0.0.1:11434/v1",
            "a secret garden, the password of the house",
            "ask-me-anything-about-it",
        ] {
            assert_eq!(masked(text), text);
            assert!(matches!(masked(text), Cow::Borrowed(_)));
        }
    }
}
