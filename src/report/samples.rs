//! Texts that a reader chooses among -> HTML. Without the page's script all are shown. Knows nothing of the page around them.

use std::fmt::Write as _;

use super::figure::{Samples, ShownSample};
use super::markup::escape;

/// The texts, and a choice for each thing that they are of, which is hidden until the script is there to serve it.
pub fn html(samples: &Samples) -> String {
    let mut out = String::from("<div class=\"samples\">\n<form hidden>");
    for (at, by) in samples.by.iter().enumerate() {
        let mut values: Vec<&str> = Vec::new();
        for sample in &samples.samples {
            if !values.contains(&sample.of[at].as_str()) {
                values.push(&sample.of[at]);
            }
        }
        let option = |value: &&str| format!("<option>{}</option>", escape(value));
        let options: String = values.iter().map(option).collect();
        let by = escape(by);
        write(
            &mut out,
            format_args!("<label>{by} <select><option value=\"\">all</option>{options}</select></label> "),
        );
    }
    out.push_str("<output></output></form>\n<div class=\"list\" tabindex=\"0\">\n");
    samples.samples.iter().for_each(|sample| article(&mut out, sample));
    out.push_str("</div>\n</div>\n");
    out
}

fn write(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a string takes everything");
}

fn article(out: &mut String, sample: &ShownSample) {
    let of: Vec<String> = sample.of.iter().map(|value| escape(value).to_string()).collect();
    let data: String = of.iter().enumerate().map(|(at, value)| format!(" data-of{at}=\"{value}\"")).collect();
    let note = escape(&sample.note);
    write(
        out,
        format_args!("<article{data}>\n<h4>{} <span class=\"id\">{note}</span></h4>\n", of.join(" \u{b7} ")),
    );
    let at = sample.text.find(&sample.evidence).filter(|_| !sample.evidence.is_empty());
    if at.is_none() && !sample.evidence.is_empty() {
        write(out, format_args!("<p class=\"told\">told by: {}</p>\n", escape(&sample.evidence)));
    }
    if !sample.earlier.is_empty() {
        write(out, format_args!("<p class=\"earlier\">{}</p>\n", escape(&sample.earlier)));
    }
    let (before, marked, after) = match at {
        Some(at) => {
            (&sample.text[..at], sample.evidence.as_str(), &sample.text[at + sample.evidence.len()..])
        }
        None => (sample.text.as_str(), "", ""),
    };
    let marked = if marked.is_empty() { String::new() } else { format!("<mark>{}</mark>", escape(marked)) };
    write(
        out,
        format_args!("<p class=\"said\">{}{marked}{}</p>\n</article>\n", escape(before), escape(after)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_told_an_outcome_is_marked_and_nothing_is_taken_for_markup() {
        let sample = |evidence: &str, earlier: &str| ShownSample {
            of: vec!["an\"gry".into(), "yes".into()],
            note: "ab12".into(),
            evidence: evidence.into(),
            earlier: earlier.into(),
            text: "<i>I will</i> tell".into(),
        };
        let page = html(&Samples {
            by: vec!["steered".into(), "outcome".into()],
            samples: vec![sample("I will", ""), sample("0.80 of 0.90", "Hm & so.")],
        });
        assert!(page.contains("&lt;i&gt;<mark>I will</mark>&lt;/i&gt; tell"), "{page}");
        assert!(page.contains("told by: 0.80 of 0.90") && page.contains("Hm &amp; so."));
        assert!(page.contains("<article data-of0=\"an&quot;gry\" data-of1=\"yes\">"), "{page}");
        assert_eq!(page.matches("<option>yes</option>").count(), 1);
    }
}
