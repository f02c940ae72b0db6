//! The comparison on small tables: cells and rows.

use super::*;
use crate::stages::analysis::cosine::Cosine;
use crate::stages::analysis::pca::Pca;

/// `pca_variance` and `pca_checks` of (model, stories, variant, layer, PC1's share).
fn pca(rows: &[(&str, &str, &str, i32, f64)]) -> Vec<(String, Table)> {
    let strings = |f: fn(&(&str, &str, &str, i32, f64)) -> String| Column::Str(rows.iter().map(f).collect());
    let places = || {
        vec![
            ("model", strings(|r| r.0.into())),
            ("stories", strings(|r| r.1.into())),
            ("variant", strings(|r| r.2.into())),
            ("layer", Column::I32(rows.iter().map(|r| r.3).collect())),
        ]
    };
    let with = |name: &str, column: (&'static str, Column)| {
        let columns = places().into_iter().chain([column]).collect();
        (name.to_string(), Table::new(&format!("{name}/1"), columns))
    };
    // Thirty emotions, as in the replication on Llama.
    let scores = rows.iter().flat_map(|row| (0..30).map(move |at| (row, at.to_string())));
    let strings = |f: fn(&(&str, &str, &str, i32, f64)) -> String| {
        Column::Str(scores.clone().map(|(row, _)| f(row)).collect())
    };
    let scores = vec![
        ("model", strings(|r| r.0.into())),
        ("stories", strings(|r| r.1.into())),
        ("variant", strings(|r| r.2.into())),
        ("layer", Column::I32(scores.clone().map(|(row, _)| row.3).collect())),
        ("emotion", Column::Str(scores.clone().map(|(_, emotion)| emotion).collect())),
    ];
    vec![
        ("pca".to_string(), Table::new("pca/1", scores)),
        with("pca_variance", ("explained_variance_ratio", Column::F64(rows.iter().map(|r| r.4).collect()))),
        with("pca_checks", ("value", Column::F64(vec![0.25; rows.len()]))),
    ]
}

fn models() -> Vec<Model> {
    let model = |name: &str, n_layers, n_params| Model { name: name.into(), n_layers, n_params };
    vec![model("small", 6, 2_500_000), model("large", 16, 1_236_000_000)]
}

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

fn table(figure: &Figure) -> &TableFigure {
    let Body::Table(table) = &figure.body else { panic!("{figure:?}") };
    table
}

#[test]
fn a_set_a_row_at_its_default_layer_and_published_rows_below() {
    let tables = pca(&[
        ("small", "own", "", 0, 0.9),
        ("small", "own", "", 3, 0.5),
        ("large", "own", "", 10, 0.375),
        ("large", "own", "", 15, 0.9),
    ]);
    let analysis = Analysis::Pca(Pca { components: 2 });
    let analysed = Compared { name: "space", analysis: &analysis, tables: &tables };
    let comparison = compare(&models(), &[analysed], &[]).unwrap();
    assert_eq!(comparison.section.figures.len(), 1);
    let figure = &comparison.section.figures[0];
    assert_eq!((figure.title.as_str(), figure.model.as_deref()), ("Principal components", None));
    let table = table(figure);
    let heads = ["model", "parameters, M", "layer", "PC1, % of variance", "|r(PC1, norm)|"];
    assert_eq!(table.columns, heads);
    let number = Cell::Number;
    assert_eq!(
        table.rows[0],
        [text("small"), number(2.5, 1), text("3 of 6"), number(50.0, 1), number(0.25, 2)]
    );
    assert_eq!(
        table.rows[1],
        [text("large"), number(1236.0, 0), text("10 of 16"), number(37.5, 1), number(0.25, 2)]
    );
    // The published shares of 171 emotions and of nine are not comparable with these.
    assert_eq!(table.rows.len(), 3);
    assert_eq!(table.rows[2][0], text("published: Llama-3.2-1B-Instruct, layer 10"));
    assert_eq!(table.rows[2][1..], [text(""), text(""), number(36.2, 1), Cell::Empty]);
    assert!(figure.caption.contains("published"));
}

#[test]
fn sets_are_told_apart_by_what_differs_in_them() {
    let tables = pca(&[
        ("small", "own", "wrap=raw, seed=1", 4, 0.5),
        ("small", "own", "wrap=user, seed=1", 4, 0.25),
        ("small", "file", "seed=1", 4, 0.75),
    ]);
    let analysis = Analysis::Pca(Pca { components: 2 });
    let analysed = |name: &'static str| Compared { name, analysis: &analysis, tables: tables.as_slice() };
    let comparison = compare(&models(), &[analysed("a"), analysed("b")], &[]).unwrap();
    let figures = &comparison.section.figures;
    assert_eq!(
        figures.iter().map(|f| f.title.as_str()).collect::<Vec<_>>(),
        ["Principal components (a)", "Principal components (b)"]
    );
    let table = table(&figures[0]);
    assert_eq!(table.columns[..4], ["model", "stories", "wrap", "layer"]);
    assert_eq!(table.rows[1][..4], [text("small"), text("own"), text("user"), text("4 of 6")]);
    assert_eq!(table.rows[2][..4], [text("small"), text("file"), Cell::Empty, text("4 of 6")]);
}

#[test]
fn what_is_wide_is_several_tables() {
    // The cosines of all 6 named pairs, and the separation: 7 claims next to 5 columns that identify sets, 4 claims
    // per table.
    let emotions = ["a", "b", "c", "d"];
    let pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")];
    let mut columns: [Vec<String>; 5] = Default::default();
    let (mut layer, mut cosine) = (Vec::new(), Vec::new());
    for (model, stories, variant) in
        [("small", "own", "seed=1"), ("large", "own", "seed=1"), ("small", "file", "seed=2")]
    {
        for a in emotions {
            for b in emotions {
                for (column, value) in columns.iter_mut().zip([model, stories, variant, a, b]) {
                    column.push(value.to_string());
                }
                layer.push(4);
                cosine.push(if a == b { 1.0 } else { 0.5 });
            }
        }
    }
    let names = ["model", "stories", "variant", "emotion_a", "emotion_b"];
    let mut named: Vec<_> = names.into_iter().zip(columns.map(Column::Str)).collect();
    named.extend([("layer", Column::I32(layer)), ("cosine", Column::F64(cosine))]);
    let tables = [("cosine".to_string(), Table::new("cosine/1", named))];
    let pairs = pairs.map(|(a, b)| (a.to_string(), b.to_string())).to_vec();
    let analysis = Analysis::Cosine(Cosine { pairs });
    let analysed = Compared { name: "similarity", analysis: &analysis, tables: &tables };
    let comparison = compare(&models(), &[analysed], &[]).unwrap();
    let figures = &comparison.section.figures;
    let titles: Vec<_> = figures.iter().map(|f| f.title.as_str()).collect();
    assert_eq!(titles, ["Similarity, 1 of 2", "Similarity, 2 of 2"]);
    let sets = ["model", "parameters, M", "stories", "seed", "layer"];
    assert_eq!(table(&figures[0]).columns[..5], sets);
    assert_eq!(table(&figures[0]).columns[5..], ["separation", "a / b", "a / c", "a / d"]);
    assert_eq!(table(&figures[1]).columns[..5], sets);
    assert_eq!(table(&figures[1]).columns[5..], ["b / c", "b / d", "c / d"]);
    assert_eq!(table(&figures[1]).rows.len(), 3);
}

#[test]
fn the_long_table_has_a_number_a_line() {
    let tables = pca(&[("small", "own", "seed=1", 4, 0.5), ("small", "own", "seed=2", 4, 0.25)]);
    let analysis = Analysis::Pca(Pca { components: 2 });
    let analysed = Compared { name: "space", analysis: &analysis, tables: &tables };
    let comparison = compare(&models(), &[analysed], &[]).unwrap();
    let mut csv = Vec::new();
    comparison.table.write_csv(&mut csv).unwrap();
    assert_eq!(
        String::from_utf8(csv).unwrap(),
        "model,stories,variant,other,layer,n_layers,n_params,analysis,name,value,low,high,p,published\n\
         small,own,seed=1,,4,6,2500000,space,\"PC1, % of variance\",50.0,,,,false\n\
         small,own,seed=2,,4,6,2500000,space,\"PC1, % of variance\",25.0,,,,false\n\
         small,own,seed=1,,4,6,2500000,space,\"|r(PC1, norm)|\",0.25,,,,false\n\
         small,own,seed=2,,4,6,2500000,space,\"|r(PC1, norm)|\",0.25,,,,false\n\
         \"Llama-3.2-1B-Instruct, layer 10\",,,,,,,space,\"PC1, % of variance\",36.2,,,,true\n"
    );
}

#[test]
fn an_analysis_with_several_parameters_is_one_table_and_one_set_is_none() {
    let analysis = Analysis::Pca(Pca { components: 2 });
    let other = Analysis::Pca(Pca { components: 3 });
    let (two, three) = (pca(&[("small", "own", "n=2", 4, 0.5)]), pca(&[("small", "own", "n=3", 4, 0.25)]));
    let parts = [
        Compared { name: "space", analysis: &analysis, tables: &two },
        Compared { name: "space", analysis: &other, tables: &three },
        Compared { name: "alone", analysis: &analysis, tables: &two },
    ];
    let comparison = compare(&models(), &parts, &[]).unwrap();
    let titles: Vec<_> = comparison.section.figures.iter().map(|f| f.title.as_str()).collect();
    assert_eq!(titles, ["Principal components (space)"]);
    let table = table(&comparison.section.figures[0]);
    assert_eq!(table.columns[..3], ["model", "n", "layer"]);
    assert_eq!(table.rows[0][1..4], [Cell::Number(2.0, 0), text("4 of 6"), Cell::Number(50.0, 1)]);
    assert_eq!(table.rows[1][1..4], [Cell::Number(3.0, 0), text("4 of 6"), Cell::Number(25.0, 1)]);
    let lines = comparison.table.str("analysis").unwrap();
    assert_eq!(lines.iter().filter(|name| *name == "alone").count(), 2 + 1);
}

#[test]
fn values_of_axes_are_numbers_where_they_are_written_as_such() {
    assert_eq!(value("50"), Cell::Number(50.0, 0));
    assert_eq!(value("-0.25"), Cell::Number(-0.25, 2));
    for other in ["none", "components-3", "0.5-1", "1e-7", "inf", ""] {
        assert_eq!(value(other), text(other));
    }
}
