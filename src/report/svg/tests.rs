//! Tests of every kind of drawing: well-formed, safe, deterministic.

use super::super::figure::*;
use super::super::png;
use super::*;

const HOSTILE: &str = "<script>alert('x')</script>\u{0} & \"quotes\" ]]>";

fn bodies() -> Vec<Body> {
    let point = |label: &str, x, y| Point { label: label.into(), x, y };
    let series = |name: &str, points: &[(f64, f64)]| Series {
        name: name.into(),
        points: points.to_vec(),
        intervals: points.iter().map(|p| (p.1 - 0.5, p.1 + 0.5)).collect(),
    };
    vec![
        Body::Scatter(Scatter {
            x: HOSTILE.into(),
            y: "y".into(),
            points: vec![point(HOSTILE, 1.0, 2.0), point("b", -1.0, f64::NAN), point("c", -3.0, 0.5)],
        }),
        Body::Panels(Panels {
            panels: (0..3)
                .map(|i| Panel {
                    title: HOSTILE.into(),
                    details: vec![HOSTILE.into(), HOSTILE.into()],
                    plane: Scatter {
                        x: HOSTILE.into(),
                        y: "y".into(),
                        points: vec![point(HOSTILE, 1.0, f64::from(i)), point("b", -1.0, f64::INFINITY)],
                    },
                })
                .collect(),
        }),
        Body::Heatmap(Heatmap {
            row_axis: "r".into(),
            column_axis: HOSTILE.into(),
            rows: vec![HOSTILE.into(), "b".into()],
            columns: vec![HOSTILE.into(), "c".into()],
            values: vec![0.5, -1.0, f64::NAN],
            value: HOSTILE.into(),
            limit: Some(0.75),
        }),
        Body::Lines(Lines {
            x: "x".into(),
            y: HOSTILE.into(),
            series: vec![series(HOSTILE, &[(0.0, 1.0), (1.0, f64::NAN), (2.0, -1.0)]), series("empty", &[])],
            bands: vec![Band { name: HOSTILE.into(), points: vec![(0.0, -1.0, 1.0), (1.0, f64::NAN, 2.0)] }],
            log: false,
        }),
        Body::Lines(Lines {
            x: HOSTILE.into(),
            series: vec![series("of doses", &[(1.0, 0.5), (400.0, 0.75), (0.0, 1.0)])],
            log: true,
            ..Lines::default()
        }),
        Body::Bars(Bars {
            y: HOSTILE.into(),
            band: HOSTILE.into(),
            bars: vec![
                Bar {
                    label: HOSTILE.into(),
                    value: 1.5,
                    band: Some((-0.5, 0.5)),
                    interval: Some((1.0, 2.0)),
                },
                Bar { label: "b".into(), value: f64::INFINITY, band: None, interval: None },
                Bar { label: "c".into(), value: -0.5, band: None, interval: None },
            ],
        }),
        Body::Dots(Dots {
            x: HOSTILE.into(),
            decimals: 2,
            band: HOSTILE.into(),
            dots: vec![
                Dot {
                    label: HOSTILE.into(),
                    value: 1.5,
                    interval: Some((1.0, 2.0)),
                    band: Some((-0.5, 0.5)),
                },
                Dot { label: "b".into(), value: f64::NAN, interval: Some((f64::NAN, 2.0)), band: None },
                Dot { label: "c".into(), value: -0.5, interval: None, band: Some((0.0, f64::INFINITY)) },
            ],
        }),
    ]
}

fn heatmap() -> Body {
    bodies().into_iter().find(|body| matches!(body, Body::Heatmap(_))).unwrap()
}

fn empty_bodies() -> Vec<Body> {
    vec![
        Body::Scatter(Scatter { x: "x".into(), y: "y".into(), points: vec![] }),
        Body::Panels(Panels { panels: vec![] }),
        Body::Heatmap(Heatmap {
            row_axis: "r".into(),
            column_axis: "c".into(),
            rows: vec![],
            columns: vec![],
            values: vec![],
            value: "v".into(),
            limit: None,
        }),
        Body::Lines(Lines::default()),
        Body::Bars(Bars { y: "y".into(), bars: vec![], band: String::new() }),
        Body::Dots(Dots { x: "x".into(), dots: vec![], decimals: 0, band: String::new() }),
    ]
}

const DRESSES: [Dress; 3] = [Dress::Page, Dress::File, Dress::Print];

#[test]
fn every_drawing_is_well_formed_and_holds_no_script() {
    for body in bodies().iter().chain(&empty_bodies()) {
        for dress in DRESSES {
            let svg = draw(HOSTILE, body, dress).unwrap();
            png::parse(&svg).unwrap_or_else(|e| panic!("{e:#}\n{svg}"));
            assert!(!svg.contains("<script"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

#[test]
fn labels_come_through_as_text() {
    for body in bodies() {
        let svg = draw("t", &body, Dress::File).unwrap();
        let xml = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        let texts: Vec<_> = xml.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
        assert!(texts.iter().any(|t| t.contains("<script>alert")), "{texts:?}");
    }
}

#[test]
fn the_same_figure_is_the_same_bytes() {
    for body in bodies() {
        for dress in DRESSES {
            assert_eq!(draw("t", &body, dress), draw("t", &body, dress));
        }
    }
}

#[test]
fn a_table_is_no_drawing() {
    assert_eq!(draw("t", &Body::Table(TableFigure { columns: vec![], rows: vec![] }), Dress::Page), None);
}

/// Both schemes in a file, only the light one in print, none in the page, whose own style sheet has them.
#[test]
fn colours_come_from_where_the_drawing_is_shown() {
    let body = &heatmap();
    let [page, file, print] = DRESSES.map(|dress| draw("t", body, dress).unwrap());
    assert!(!page.contains("<style>") && !page.contains(":#"), "{page}");
    assert!(file.contains(".paper{fill:#ffffff}") && file.contains("prefers-color-scheme:dark"));
    assert!(print.contains(".paper{fill:#ffffff}") && !print.contains("prefers-color-scheme"));
    assert!(page_rules().contains(".h40{stroke:#") && page_rules().contains("prefers-color-scheme:dark"));
}

/// `Dress::Print` is rendered to pixels at twice the drawing's size, on white, with its colours.
#[test]
fn pixels_are_drawn() {
    let body = &heatmap();
    let svg = draw("t", body, Dress::Print).unwrap();
    let size = png::parse(&svg).unwrap().size();
    let bytes = png::render(&svg).unwrap();
    let pixels = resvg::tiny_skia::Pixmap::decode_png(&bytes).unwrap();
    assert_eq!((pixels.width(), pixels.height()), (2 * size.width() as u32, 2 * size.height() as u32));
    let colours: std::collections::BTreeSet<_> =
        pixels.pixels().iter().map(|p| (p.red(), p.green(), p.blue(), p.alpha())).collect();
    assert!(colours.contains(&(255, 255, 255, 255)));
    assert!(colours.iter().all(|c| c.3 == 255));
    // The cell of -1 lies beyond the limit: the scale's blue end. Anti-aliased text gives more than a few colours.
    assert!(colours.iter().any(|&(r, _, b, _)| b > 150 && r < 60), "no blue cell");
    assert!(colours.len() > 50, "{} colours", colours.len());
}
