//! Figures and claims about the texts generated under steering. Depends only on their table.

use anyhow::Result;

use super::estimates::mean;
use super::steering_bench::UNSTEERED;
use super::steering_nulls::kind;
use super::{Claim, Group, groups};
use crate::report::figure::{Body, Cell, Figure, TableFigure};
use crate::store::table::Table;

/// One text.
struct Text<'a> {
    prompt: &'a str,
    strength: f64,
    steered: &'a str,
    surprise: Option<f64>,
    /// The same value for the text generated after that prompt without steering.
    plain: Option<f64>,
    repeated: Option<f64>,
    text: &'a str,
}

fn read<'a>(group: &Group<'a>) -> Result<Vec<Text<'a>>> {
    let table = group.table;
    let (prompt, strength, steered) = (table.str("prompt")?, table.f64("strength")?, table.str("steered")?);
    let (surprise, repeated) = (table.opt_f64("surprise")?, table.opt_f64("repeated")?);
    let text = table.str("text")?;
    let plain = |row: usize| {
        let here = group.rows.iter().find(|&&at| steered[at] == UNSTEERED && prompt[at] == prompt[row]);
        here.and_then(|&at| surprise[at])
    };
    let of = |&row: &usize| Text {
        prompt: &prompt[row],
        strength: strength[row],
        steered: &steered[row],
        surprise: surprise[row],
        plain: plain(row),
        repeated: repeated[row],
        text: &text[row],
    };
    Ok(group.rows.iter().map(of).collect())
}

/// The texts of each group, with their likelihood under the unsteered model and their share of repetitions.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let figure = |group: &Group| {
        let row = |text: &Text| {
            let number = |x: Option<f64>, decimals| x.map_or(Cell::Empty, |x| Cell::Number(x, decimals));
            vec![
                Cell::Text(text.steered.to_string()),
                Cell::Number(text.strength, 2),
                Cell::Text(format!("{}|{}", text.prompt, text.text)),
                number(text.surprise, 2),
                number(text.repeated.map(|share| 100.0 * share), 0),
            ]
        };
        let columns = ["steered", "strength", "prompt|what is written", "nats a token", "% repeated"];
        Ok(group.figure(
            format!("{name}-written"),
            "Text generated under steering".into(),
            "The greedy continuation of each prompt while a vector is added. Nats per token: the mean negative \
             log-probability of the generated text under the unsteered model (the logarithm of its perplexity). \
             Repeated: the share of token trigrams that occurred before in the text. If the surprise is far above that \
             of the unsteered text, or the text loops, the model is no longer coherent; a text that is likelier than \
             the unsteered one is usually a loop."
                .into(),
            Body::Table(TableFigure {
                columns: columns.map(String::from).to_vec(),
                rows: read(group)?.iter().map(row).collect(),
            }),
        ))
    };
    groups(tables, "steering_text")?.iter().map(figure).collect()
}

/// At the largest strength, the mean over emotions and prompts of how much less likely the text is under the unsteered
/// model than the text that it generates itself, and of the share that is repeated.
pub fn claims(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in groups(tables, "steering_text")? {
        let unit = group.table.str("unit")?[group.rows[0]].replace('_', " ");
        let mut texts = read(&group)?;
        texts.retain(|text| text.steered != UNSTEERED && kind(text.steered).is_none());
        let largest = texts.iter().map(|text| text.strength).fold(f64::NEG_INFINITY, f64::max);
        texts.retain(|text| text.strength == largest);
        let setting = format!("{largest} \u{d7} {unit}");
        let over = |of: fn(&Text) -> Option<f64>| mean(&texts.iter().filter_map(of).collect::<Vec<_>>());
        let surprise = over(|text| Some(text.surprise? - text.plain?));
        let repeated = over(|text| text.repeated.map(|share| 100.0 * share));
        let what = format!("surprise at what is written at {setting}");
        claims.extend(surprise.map(|more| group.claim(what, "nats a token", more, 2)));
        let what = format!("repeated in what is written at {setting}");
        claims.extend(repeated.map(|share| group.claim(what, "% of three tokens in a row", share, 0)));
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::super::Places;
    use super::super::tests::set;
    use super::*;
    use crate::lm::Layer;
    use crate::store::table::Column;

    #[test]
    fn texts_are_held_beside_the_unsteered_one_of_their_prompt() {
        let rows = [
            ("p", 0.0, UNSTEERED, Some(1.0), Some(0.0)),
            ("q", 0.0, UNSTEERED, Some(2.0), Some(0.0)),
            ("p", 1.0, "a", Some(1.5), Some(0.5)),
            ("q", 1.0, "a", Some(2.75), Some(0.25)),
            ("p", 1.0, "random-1", Some(9.0), Some(1.0)),
            ("q", -1.0, "a", Some(9.0), Some(1.0)),
            ("q", 1.0, "b", None, None),
        ];
        let set = set(&["a"], &[&[1.0]]);
        let mut places = Places::default();
        rows.iter().for_each(|_| places.push(&set, Layer::Block(3)));
        type Row = (&'static str, f64, &'static str, Option<f64>, Option<f64>);
        let texts = |of: fn(&Row) -> String| Column::Str(rows.iter().map(of).collect());
        let columns = vec![
            ("unit", texts(|_| "resid_norm".into())),
            ("prompt", texts(|r| r.0.into())),
            ("strength", Column::F64(rows.iter().map(|r| r.1).collect())),
            ("steered", texts(|r| r.2.into())),
            ("surprise", Column::OptF64(rows.iter().map(|r| r.3).collect())),
            ("repeated", Column::OptF64(rows.iter().map(|r| r.4).collect())),
            ("text", texts(|_| " and so on".into())),
        ];
        let tables = vec![("steering_text".to_string(), places.table("steering_text/1", columns))];
        let claims = claims(&tables).unwrap();
        assert_eq!(claims.iter().map(|c| c.estimate).collect::<Vec<_>>(), [0.625, 37.5]);
        assert_eq!(claims[0].what, "surprise at what is written at 1 \u{d7} resid norm");
        let Body::Table(shown) = &figures("causes", &tables).unwrap()[0].body else { panic!() };
        assert_eq!((shown.rows.len(), &shown.rows[0][2]), (7, &Cell::Text("p| and so on".into())));
    }
}
