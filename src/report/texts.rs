//! Renders texts with coloured tokens to HTML, initially by the first measure. Independent of the page around them.

use std::fmt::Write as _;

use super::figure::{ShownText, ShownTurn, Texts};
use super::markup::escape;
use super::number::short;
use super::svg::colour::step;
use super::svg::heatmap::attributes;

/// The texts, with a selector for the measure.
pub fn html(texts: &Texts) -> String {
    let mut out = format!("<div class=\"texts\" data-window=\"{}\">\n<form><label>", texts.window);
    let option = |measure: &String| format!("<option>{}</option>", escape(measure));
    let options: String = texts.measures.iter().map(option).collect();
    write(&mut out, format_args!("{} <select>{options}</select></label></form>\n", escape(&texts.measure)));
    for text in &texts.texts {
        article(&mut out, text, texts.measures.len());
    }
    out.push_str("</div>\n");
    out
}

fn write(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a string takes everything");
}

fn article(out: &mut String, text: &ShownText, measures: usize) {
    let values: Vec<f64> = (0..measures)
        .flat_map(|measure| {
            text.turns.iter().flat_map(move |turn| turn.values[measure].iter().map(|&x| f64::from(x)))
        })
        .collect();
    let largest = values.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
    write(
        out,
        format_args!(
            "<article tabindex=\"0\" data-limit=\"{}\" {}>\n<h4>{}</h4>\n",
            text.limit,
            attributes(&values, largest),
            escape(&text.title)
        ),
    );
    for turn in &text.turns {
        show_turn(out, turn, text.limit);
    }
    out.push_str("</article>\n");
}

fn show_turn(out: &mut String, turn: &ShownTurn, limit: f64) {
    let first = turn.values.first().map(Vec::as_slice).unwrap_or_default();
    let mean = first.iter().map(|&x| f64::from(x)).sum::<f64>() / first.len().max(1) as f64;
    let role = escape(&turn.role);
    write(
        out,
        format_args!(
            "<div class=\"turn\"><div class=\"who\">{role} <span class=\"mean\">{}</span></div><div class=\"tokens\">",
            short(mean)
        ),
    );
    for (token, value) in turn.tokens.iter().zip(first) {
        let class =
            step(f64::from(*value), limit).map_or_else(String::new, |step| format!(" class=\"h{step}\""));
        write(out, format_args!("<span{class}>{}</span>", escape(token)));
    }
    out.push_str("</div></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_escaped_and_coloured_by_the_first_measure() {
        let turn = ShownTurn {
            role: "user".into(),
            tokens: vec!["<b>".into(), " so".into()],
            values: vec![vec![2.0, -4.0], vec![0.0, 1.0]],
        };
        let text = ShownText { title: "a & b".into(), limit: 2.0, turns: vec![turn] };
        let texts = Texts {
            measure: "emotion".into(),
            measures: vec!["sad".into(), "glad".into()],
            value: "z".into(),
            window: 16,
            texts: vec![text],
        };
        let page = html(&texts);
        assert!(page.contains("<span class=\"h40\">&lt;b&gt;</span><span class=\"h0\"> so</span>"), "{page}");
        assert!(
            page.contains("<h4>a &amp; b</h4>")
                && page.contains("data-limit=\"2\"")
                && page.contains("data-largest=\"4\"")
        );
        assert!(page.contains("<option>sad</option><option>glad</option>"));
    }
}
