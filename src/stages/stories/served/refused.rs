//! Interprets a server's refusal: the parameter it concerns, whether it is a filter's, and its message. Does no
//! networking.

use serde_json::Value;

/// The longest part of a server's message that is shown, in characters.
const WORDS: usize = 300;

/// Whether a refusal names a parameter: in quotation marks of any kind, or as a word in a message about unknown
/// parameters.
pub fn names(words: &str, parameter: &str) -> bool {
    let quoted = ["'", "`", "\""].iter().any(|quote| words.contains(&format!("{quote}{parameter}{quote}")));
    let words = words.to_lowercase();
    let unknown = [
        "unrecognized",
        "unsupported",
        "not supported",
        "unknown",
        "not permitted",
        "not allowed",
        "not recognized",
        "extra inputs",
        "unexpected",
        "does not support",
        "doesn't support",
        "deprecated",
        "invalid",
    ];
    let is_it = |word: &str| word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_')) == parameter;
    quoted || (unknown.iter().any(|sign| words.contains(sign)) && words.split_whitespace().any(is_it))
}

/// Codes and phrases with which a filter refuses one request for its content.
const FILTERS: [&str; 12] = [
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "content management policy",
    "content policy",
    "usage policy",
    "moderation",
    "data_inspection_failed",
    "inappropriate content",
    "safety system",
    "prohibited_content",
    "flagged",
];

/// Whether a refusal comes from a filter: it concerns this request, not every one.
pub fn is_filter(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    FILTERS.iter().any(|sign| text.contains(sign))
}

/// Whether a refusal is due to an exhausted quota, which no waiting resolves; by OpenAI's codes.
pub fn is_spent(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"]
        .iter()
        .any(|code| text.contains(code))
}

/// The error message in a body: `{"error": {"message": ...}}` (OpenAI, vLLM, llama.cpp), `{"error": ...}` (Ollama),
/// `{"message": ...}` (older vLLM), `{"detail": ...}` (FastAPI).
pub fn error_of(body: &Value) -> Option<&str> {
    // Google's compatible endpoint wraps the body into a list.
    let body = body.get(0).unwrap_or(body);
    let error = &body["error"];
    error["message"].as_str().or(error.as_str()).filter(|said| !said.is_empty())
}

/// A server's own error message, on one line, shortened; empty if there is none.
pub fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        return shortened(&page(&text));
    }
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    let said = parsed.as_ref().and_then(|body| {
        error_of(body).or_else(|| body["message"].as_str()).or_else(|| body["detail"].as_str())
    });
    shortened(said.unwrap_or(&text))
}

/// The message of a proxy's or a web server's page: its title, or else its text without tags.
fn page(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let title =
        lower.find("<title>").zip(lower.find("</title>")).map(|(from, to)| (from + "<title>".len(), to));
    match title.and_then(|(from, to)| html.get(from..to)).map(str::trim).filter(|title| !title.is_empty()) {
        Some(title) => format!("a page: {title}"),
        None => {
            let parts = html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
            format!("a page: {}", parts.collect::<Vec<_>>().join(" "))
        }
    }
}

/// A text on one line, shortened.
pub fn shortened(text: &str) -> String {
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_told_from_what_concerns_every_request() {
        for body in [
            r#"{"error": {"message": "The response was filtered due to the prompt triggering the content management policy.", "code": "content_filter"}}"#,
            r#"{"error": {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}}"#,
            r#"{"error": {"message": "Your request was rejected as a result of our safety system."}}"#,
        ] {
            assert!(is_filter(body.as_bytes()), "{body}");
        }
        assert!(!is_filter(
            br#"{"error": {"message": "model `m` does not exist", "code": "model_not_found"}}"#
        ));
    }

    #[test]
    fn errors_keep_the_servers_words() {
        for (body, said) in [
            (r#"{"error": {"message": "No such model.", "type": "x"}}"#, "No such model."),
            (r#"{"error": "model 'm' not found"}"#, "model 'm' not found"),
            (r#"{"object": "error", "message": "Too long."}"#, "Too long."),
            (r#"{"detail": "Not Found"}"#, "Not Found"),
            (r#"[{"error": {"code": 429, "message": "Exhausted."}}]"#, "Exhausted."),
            ("<html>\n  Bad\x07 Gateway </html>\n", "a page: Bad Gateway"),
            ("<!DOCTYPE html><head><TITLE>502 Bad Gateway</TITLE></head><p>nginx", "a page: 502 Bad Gateway"),
            ("</title><title>", "a page:"),
            ("", ""),
        ] {
            assert_eq!(words(body.as_bytes()), said);
        }
        let long = words("\u{e4}".repeat(1000).as_bytes());
        assert_eq!(long, format!("{}...", "\u{e4}".repeat(300)));
    }
}
