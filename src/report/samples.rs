//! Data of texts that the reader can filter, search and sort, for the page's script. Independent of the page around
//! them.

use serde_json::{Value, json};

use super::figure::{Samples, ShownSample, ShownTokens};
use super::svg::heatmap::packed;

/// The texts as JSON; the script shows only a few at a time.
pub fn html(samples: &Samples) -> String {
    let text = |ShownSample { of, numbers, note, evidence, earlier, text, tokens }: &ShownSample| {
        let numbers: Vec<Value> = numbers.iter().map(|x| number(*x)).collect();
        json!([of, numbers, note, evidence, earlier, text, tokens.as_ref().map(coloured)])
    };
    let Samples { by, numbers, all, measures, value, samples } = samples;
    let texts: Vec<Value> = samples.iter().map(text).collect();
    let data = json!({"by": by, "numbers": numbers, "all": all, "measures": measures, "value": value, "texts": texts});
    // JSON escapes keep out the end of the script element, and NUL, which separates the page's texts.
    let data = data.to_string().replace('<', "\\u003c");
    format!("<div class=\"samples\"><script type=\"application/json\">{data}</script></div>\n")
}

/// The tokens, their values measure by measure, and the end of the colour scale, at the 99th percentile.
fn coloured(tokens: &ShownTokens) -> Value {
    let values: Vec<f64> = tokens.values.iter().flatten().map(|x| f64::from(*x)).collect();
    let mut sizes: Vec<f64> = values.iter().map(|x| x.abs()).filter(|x| x.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    let largest = sizes.last().copied().unwrap_or_default();
    let limit = sizes.get(sizes.len() * 99 / 100).copied().unwrap_or_default();
    json!([tokens.pieces, packed(&values, largest), largest, number(limit)])
}

/// A number with four significant digits; `null` if it is not finite.
fn number(x: f64) -> Value {
    format!("{x:.3e}").parse::<f64>().ok().filter(|x| x.is_finite()).map_or(Value::Null, |x| json!(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_data_and_none_of_them_ends_it() {
        let sample = ShownSample {
            of: vec!["angry".into(), "yes".into()],
            numbers: vec![0.123456, f64::NAN],
            note: "ab12".into(),
            text: "</script>\0<b>".into(),
            tokens: Some(ShownTokens {
                pieces: vec!["a".into(), "<b>".into()],
                values: vec![vec![-2.0, 0.0]],
            }),
            ..ShownSample::default()
        };
        let page = html(&Samples {
            by: vec!["steered".into(), "outcome".into()],
            numbers: vec!["a".into(), "b".into()],
            all: Some(9),
            measures: vec!["angry".into()],
            value: "z".into(),
            samples: vec![sample],
        });
        assert!(!page.contains('\0') && page.matches("</script>").count() == 1, "{page}");
        let data = &page[page.find('{').unwrap()..=page.rfind('}').unwrap()];
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            data["texts"][0],
            // The values encode to 1 and 131,072 in base 64: the smallest value, and zero.
            json!([
                ["angry", "yes"],
                [0.1235, null],
                "ab12",
                "",
                "",
                "</script>\0<b>",
                [["a", "<b>"], "AABgAA", 2.0, 2.0]
            ])
        );
        assert_eq!(data["all"], 9);
    }
}
