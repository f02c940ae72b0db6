//! Escapes untrusted text for HTML and XML, and turns untrusted names into safe file names and links.

/// Escapes `text` for use as content or as a quoted attribute: it contains no markup and no character forbidden in XML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// `name` with every run of characters outside `[A-Za-z0-9.-]` replaced by one `-`; never empty, never a hidden file,
/// at most 80 bytes.
pub fn safe_name(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(80);
    let trimmed = out.trim_matches(['-', '.']);
    if trimmed.is_empty() { "figure".to_string() } else { trimmed.to_string() }
}

/// The first of `name`, `name-2`, `name-3`, ... that is not in `taken`, compared without case (as file systems of macOS
/// and Windows do). Adds it to `taken`.
pub fn unique(name: String, taken: &mut std::collections::BTreeSet<String>) -> String {
    let mut candidate = name.clone();
    let mut n = 1;
    while !taken.insert(candidate.to_lowercase()) {
        n += 1;
        candidate = format!("{name}-{n}");
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_leaves_no_markup() {
        assert_eq!(
            escape("<script>alert(\"1\" & '2')</script>"),
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;"
        );
        assert_eq!(escape("a\u{0}b\u{1b}c\u{ffff}d\te"), "a\u{fffd}b\u{fffd}c\u{fffd}d\te");
        assert_eq!(escape("怒り ▁angry"), "怒り ▁angry");
    }

    #[test]
    fn names_are_safe() {
        let cases = [
            ("space", "space"),
            ("../../etc/passwd", "etc-passwd"),
            ("a b/c\\d", "a-b-c-d"),
            ("..", "figure"),
            ("", "figure"),
            ("Llama-3.2_1B", "Llama-3.2_1B"),
            ("<script>", "script"),
        ];
        for (name, want) in cases {
            assert_eq!(safe_name(name), want, "safe_name({name:?})");
        }
        assert!(safe_name(&"x".repeat(500)).len() <= 80);
    }

    #[test]
    fn unique_names_differ_in_more_than_case() {
        let mut taken = Default::default();
        let names: Vec<_> = ["a", "A", "b", "a"].map(|n| unique(n.into(), &mut taken)).into();
        assert_eq!(names, ["a", "A-2", "b", "a-3"]);
    }
}
