//! Recomputes figures 1 to 7 of Baptista et al., "Memorization and regularization in generative diffusion models" (reg).
//!
//!     cargo run --release --example reproduce -- DIRECTORY [SAMPLES]
//!
//! writes each figure as DIRECTORY/figN.svg with its numbers in DIRECTORY/figN.csv, and prints what was compared with
//! what. SAMPLES (20000) is the number of samples behind each fraction of figures 5 and 7.

mod experiments;
mod plot;

use experiments::*;
use plot::{Axis, Figure, Layer, Mark, Panel, Scale};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BLUE: &str = "#1f5fbf";
const RED: &str = "#d1342f";
const GREY: &str = "#8a8a8a";
const BLACK: &str = "#333333";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: reproduce DIRECTORY [SAMPLES]")?;
    let samples = arguments.next().map_or(Ok(20_000), |n| n.parse())?;
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let study = Study::new(&DATA)?;

    println!("figure  {:<66} {:>9}  bound", "compared", "deviation");
    voronoi(&study)?.write(directory, 1)?;
    collapse(&study)?.write(directory, 2)?;
    hyperplanes()?.write(directory, 3)?;
    let title = "Figure 4: samples with Tikhonov regularization";
    scatter(&study, title, &TIKHONOV, [1e-4, 1e-2, 1e-1])?.write(directory, 4)?;
    let title = "Figure 5: memorization with Tikhonov regularization";
    fractions(&study, title, &TIKHONOV, samples, Some(tikhonov_limit))?.write(directory, 5)?;
    let title = "Figure 6: samples with empirical Bayes regularization";
    scatter(&study, title, &EMPIRICAL_BAYES, [1e-2, 1e-1, 1.0])?.write(directory, 6)?;
    let title = "Figure 7: memorization with empirical Bayes regularization";
    fractions(&study, title, &EMPIRICAL_BAYES, samples, None)?.write(directory, 7)?;
    Ok(())
}

/// A figure, its numbers, and the lines of the table: what was compared, the deviation and its bound.
struct Outcome {
    figure: Figure,
    csv: String,
    compared: Vec<[String; 3]>,
}

impl Outcome {
    fn write(self, directory: &Path, number: usize) -> Result<()> {
        std::fs::write(directory.join(format!("fig{number}.svg")), self.figure.svg())?;
        std::fs::write(directory.join(format!("fig{number}.csv")), self.csv)?;
        for [what, deviation, bound] in self.compared {
            println!("{}", format!("{number:<6}  {what:<66} {deviation:>9}  {bound}").trim_end());
        }
        Ok(())
    }
}

fn csv(header: &str, rows: impl IntoIterator<Item = impl AsRef<[f64]>>) -> String {
    let mut out = format!("{header}\n");
    for row in rows {
        let row: Vec<String> = row.as_ref().iter().map(f64::to_string).collect();
        let _ = writeln!(out, "{}", row.join(","));
    }
    out
}

fn linear(label: &'static str, low: f64, high: f64) -> Axis {
    Axis { label, range: (low, high), scale: Scale::Linear }
}

fn log(label: &'static str, low: f64, high: f64) -> Axis {
    Axis { label, range: (low, high), scale: Scale::Log }
}

/// A square window on the plane.
fn plane(title: String, half: f64, layers: Vec<Layer>) -> Panel {
    Panel { title, x: linear("x₁", -half, half), y: linear("x₂", -half, half), layers }
}

fn training(points: &[Point]) -> Layer {
    Layer { name: "training points", colour: BLUE, mark: Mark::Disc(3.0), runs: vec![points.to_vec()] }
}

/// Four paths end on training points (Figure 1).
fn voronoi(study: &Study) -> Result<Outcome> {
    let paths = study.paths(Starts::Prior(4), 400)?;
    let collapse = Collapse::new(study, &DATA, &paths)?;
    let panels = paths.x.iter().zip(1..).map(|(path, number)| {
        // Wide enough for the cells; a far start is outside.
        let half = 4.0;
        let cells = (0..DATA.len()).map(|n| cell(n, half)).collect();
        let layers = vec![
            Layer { name: "Voronoi cells", colour: GREY, mark: Mark::Line(0.8), runs: cells },
            Layer { name: "x(t)", colour: RED, mark: Mark::Line(1.8), runs: vec![path.clone()] },
            training(&DATA),
            Layer { name: "x(T)", colour: RED, mark: Mark::Circle(4.0), runs: vec![vec![path[0]]] },
        ];
        plane(format!("path {number}"), half, layers)
    });
    let panels = panels.collect();
    let title = "Figure 1: reverse ODE over the Voronoi cells of the training set";
    let rows = (1..)
        .zip(&paths.x)
        .flat_map(|(number, path)| paths.t.iter().zip(path).map(move |(t, x)| [f64::from(number), *t, x[0], x[1]]));
    let furthest = collapse.distance.iter().map(|d| d[d.len() - 1]).fold(0.0, f64::max);
    let sigma = study.sigma(paths.t[paths.t.len() - 1])?;
    Ok(Outcome {
        csv: csv("path,t,x1,x2", rows),
        figure: Figure { title, panel: (270.0, 270.0), panels },
        compared: vec![[
            "distance of 4 ends from training points".into(),
            format!("{furthest:.1e}"),
            format!("of the size of sigma = {sigma:.0e}"),
        ]],
    })
}

/// The outline of the points of [-half, half]² nearest to training point `n`: that square, cut by each bisector.
fn cell(n: usize, half: f64) -> Vec<Point> {
    let mut outline = vec![[-half, -half], [half, -half], [half, half], [-half, half]];
    let y = DATA[n];
    for other in DATA.iter().filter(|other| **other != y) {
        // Positive on the side of y.
        let side = |p: Point| (0..2).map(|k| (y[k] - other[k]) * (p[k] - 0.5 * (y[k] + other[k]))).sum::<f64>();
        let mut kept = Vec::new();
        for (i, &p) in outline.iter().enumerate() {
            let q = outline[(i + 1) % outline.len()];
            let (a, b) = (side(p), side(q));
            if a >= 0.0 {
                kept.push(p);
            }
            if (a >= 0.0) != (b >= 0.0) {
                let u = a / (a - b);
                kept.push([p[0] + u * (q[0] - p[0]), p[1] + u * (q[1] - p[1])]);
            }
        }
        outline = kept;
    }
    outline.push(outline[0]);
    outline
}

/// The distance to the limit falls like σ (Figure 2).
fn collapse(study: &Study) -> Result<Outcome> {
    const STEPS: usize = 2000;
    let paths = study.paths(Starts::Prior(30), STEPS)?;
    let collapse = Collapse::new(study, &DATA, &paths)?;
    let bound = collapse.slope_error();
    let Collapse { s, distance, slope } = collapse;
    // A line has no need of every step.
    let thin = |x: &[f64], y: &[f64]| -> Vec<Point> { x.iter().zip(y).step_by(20).map(|(x, y)| [*x, *y]).collect() };
    let sigma: Vec<f64> = s.iter().map(|s| (-s).exp()).collect();
    let panel = |title: &str, axis: Axis, x: &[f64]| Panel {
        title: title.into(),
        x: axis,
        y: log("|x − x*|", 1e-6, 100.0),
        layers: vec![
            Layer {
                name: "30 paths",
                colour: RED,
                mark: Mark::Line(0.8),
                runs: distance.iter().map(|d| thin(x, d)).collect(),
            },
            Layer { name: "σ(t)", colour: BLACK, mark: Mark::Dashed(1.8), runs: vec![thin(x, &sigma)] },
        ],
    };
    let panels = vec![
        panel("in s: slope −1", linear("s = −ln σ", s[0], s[STEPS]), &s),
        panel("in t: slope ½", log("t", paths.t[STEPS], 1.0), &paths.t),
    ];
    let rows = (1..).zip(&distance).flat_map(|(number, d)| {
        let rows = paths.t.iter().zip(&s).zip(d).step_by(20);
        rows.map(move |((t, s), d)| [f64::from(number), *t, *s, *d])
    });
    let csv = csv("path,t,s,distance", rows);
    let worst = slope.iter().fold(0.0f64, |most, slope| most.max((slope + 1.0).abs()));
    let mean = slope.iter().sum::<f64>() / slope.len() as f64;
    Ok(Outcome {
        csv,
        figure: Figure { title: "Figure 2: distance to the limit", panel: (380.0, 300.0), panels },
        compared: vec![[
            format!("slope of 30 paths in s: mean {mean:.6}, against -1"),
            format!("{worst:.1e}"),
            format!("{bound:.1e}, from the step size"),
        ]],
    })
}

/// Paths that start on a hyperplane between training points stay on it (Figure 3).
fn hyperplanes() -> Result<Outcome> {
    let mut panels = Vec::new();
    let mut rows = Vec::new();
    let mut compared = Vec::new();
    for (data, off) in [(&PAIR[..], off_axis as fn(Point) -> f64), (&SQUARE, off_diagonals)] {
        let study = Study::new(data)?;
        let half = study.sigma(1.0)?;
        let paths = study.paths(Starts::At(&square(half, 8)), 400)?;
        let (count, largest) = stay(&paths, off);
        let n = data.len();
        let what = format!("N = {n}: {count} paths from a hyperplane, largest distance from it");
        compared.push([what, format!("{largest:.1e}"), "0".into()]);
        for (number, path) in (1..).zip(&paths.x) {
            rows.extend(paths.t.iter().zip(path).map(|(t, x)| [n as f64, f64::from(number), *t, x[0], x[1]]));
        }
        let (on, other) = paths.x.into_iter().partition(|path| off(path[0]) == 0.0);
        let layers = vec![
            Layer { name: "paths", colour: GREY, mark: Mark::Line(1.0), runs: other },
            Layer { name: "paths from a hyperplane", colour: RED, mark: Mark::Line(1.6), runs: on },
            training(data),
        ];
        panels.push(plane(format!("N = {n}"), 1.08 * half, layers));
    }
    let title = "Figure 3: paths from a square of width 2σ(T)";
    Ok(Outcome {
        figure: Figure { title, panel: (320.0, 320.0), panels },
        csv: csv("points,path,t,x1,x2", rows),
        compared,
    })
}

/// 100 samples at three strengths of a regularizer (Figures 4 and 6).
fn scatter(study: &Study, title: &'static str, sweep: &Sweep, strengths: [f64; 3]) -> Result<Outcome> {
    let mut panels = Vec::new();
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for c in strengths {
        let regularizer = (sweep.regularizer)(c);
        let samples = study.samples(regularizer, study.adaptive(regularizer)?, 100)?;
        medians.push(format!("{:.3}", study.memorization(&samples)?.median_distance));
        rows.extend(points(&samples).iter().map(|x| [c, x[0], x[1]]));
        let runs = vec![points(&samples).to_vec()];
        let drawn = Layer { name: "samples", colour: RED, mark: Mark::Circle(3.5), runs };
        panels.push(plane(format!("c = {c}"), 4.0, vec![training(&DATA), drawn]));
    }
    let what = format!("median distance of 100 samples at three c: {}", medians.join(", "));
    Ok(Outcome {
        figure: Figure { title, panel: (290.0, 290.0), panels },
        csv: csv("c,x1,x2", rows),
        compared: vec![[what, String::new(), String::new()]],
    })
}

/// The fraction of memorized samples falls as the regularizer grows (Figures 5 and 7).
fn fractions(
    study: &Study,
    title: &'static str,
    sweep: &Sweep,
    samples: usize,
    formula: Option<fn(f64) -> f64>,
) -> Result<Outcome> {
    struct Measured {
        c: f64,
        reference: f64,
        fraction: f64,
        error: f64,
        moved: f64,
    }
    // What the steps contribute, free of chance: two solvers on the same initial states.
    let few = samples.min(1000);
    let measure = |(c, reference)| -> Result<Measured> {
        let regularizer = (sweep.regularizer)(c);
        let drawn = study.samples(regularizer, study.adaptive(regularizer)?, samples)?;
        let again = study.samples(regularizer, study.uniform_in_s(regularizer, 400)?, few)?;
        let fraction = study.memorization(&drawn)?.fraction_copied;
        let (error, moved) = (standard_error(reference, samples), study.moved_across(&drawn, &again)?);
        Ok(Measured { c, reference, fraction, error, moved })
    };
    let measured = sweep.points().map(measure).collect::<Result<Vec<_>>>()?;
    let worst = |of: fn(&Measured) -> f64| measured.iter().max_by(|a, b| of(a).total_cmp(&of(b))).expect("seven c");
    let furthest = worst(|m| deviation(m.reference, m.fraction) / m.error);
    let unsure = worst(|m| m.moved);
    let mut compared = vec![
        [
            format!("fractions of {samples} samples; furthest, in errors, at c = {:.1e}", furthest.c),
            format!("{:.4}", deviation(furthest.reference, furthest.fraction)),
            format!("{:.4}: 2 standard errors", 2.0 * furthest.error),
        ],
        [
            format!("solvers that disagree about a sample, of {few}; most at c = {:.1e}", unsure.c),
            format!("{:.4}", unsure.moved),
            format!("{:.4}: 2 standard errors", 2.0 * unsure.error),
        ],
    ];
    let ours = measured.iter().map(|m| [m.c, m.fraction]).collect();
    let references = measured.iter().map(|m| [m.c, m.reference]).collect();
    let (first, last) = (measured[0].c, measured[measured.len() - 1].c);
    let mut layers = vec![
        Layer { name: "fraction", colour: RED, mark: Mark::Disc(3.0), runs: vec![ours] },
        Layer { name: "reference", colour: BLUE, mark: Mark::Circle(6.0), runs: vec![references] },
    ];
    if let Some(f) = formula {
        let curve = (0..=100).map(|i| first * (last / first).powf(f64::from(i) / 100.0)).map(|c| [c, f(c)]).collect();
        let name = "1 − exp(−τ²/2c)";
        layers.insert(0, Layer { name, colour: BLACK, mark: Mark::Dashed(1.2), runs: vec![curve] });
        let what = "fractions against 1 - exp(-tau^2/2c), an approximation".into();
        let apart = measured.iter().map(|m| (m.fraction - f(m.c)).abs()).fold(0.0, f64::max);
        compared.push([what, format!("{apart:.4}"), String::new()]);
    }
    let panel = Panel {
        title: format!("{samples} samples"),
        x: log("c", first / 1.5, last * 1.5),
        y: linear("fraction within τ = 0.01 of a training point", -0.03, 1.03),
        layers,
    };
    let rows = measured.iter().map(|m| [m.c, m.fraction, m.reference, m.error]);
    Ok(Outcome {
        figure: Figure { title, panel: (480.0, 320.0), panels: vec![panel] },
        csv: csv("c,fraction,reference,standard_error", rows),
        compared,
    })
}
