//! Line and scatter plots as SVG, no more than the figures need.

use std::fmt::Write;

/// How an axis maps values to lengths.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// In proportion.
    Linear,
    /// By the logarithm.
    Log,
}

/// One axis of a panel.
#[derive(Clone)]
pub struct Axis {
    /// What it shows.
    pub label: &'static str,
    /// Its ends.
    pub range: (f64, f64),
    /// How values map to it.
    pub scale: Scale,
}

/// How a layer's points are drawn.
#[derive(Clone, Copy)]
pub enum Mark {
    /// A line through each run of points.
    Line(f64),
    /// The same, dashed.
    Dashed(f64),
    /// A filled disc of this radius.
    Disc(f64),
    /// A circle of this radius.
    Circle(f64),
}

/// Points drawn alike.
pub struct Layer {
    /// The legend's entry; none if empty. Layers of the same name in several panels share one.
    pub name: &'static str,
    /// A CSS colour.
    pub colour: &'static str,
    /// How the points are drawn.
    pub mark: Mark,
    /// One or several runs of points.
    pub runs: Vec<Vec<[f64; 2]>>,
}

/// One coordinate system.
pub struct Panel {
    /// Above the panel.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Drawn in this order.
    pub layers: Vec<Layer>,
}

/// Panels side by side, with one legend below.
pub struct Figure {
    /// Above all panels.
    pub title: &'static str,
    /// Width and height of a panel's frame.
    pub panel: (f64, f64),
    /// From left to right.
    pub panels: Vec<Panel>,
}

const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 54.0;
const LEGEND: f64 = 30.0;

impl Axis {
    /// The share of the axis below `v`.
    fn place(&self, v: f64) -> f64 {
        let f = |v: f64| if self.scale == Scale::Log { v.ln() } else { v };
        (f(v) - f(self.range.0)) / (f(self.range.1) - f(self.range.0))
    }

    /// Values to mark, with their labels in SVG: at most 9, at round numbers.
    fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.range;
        match self.scale {
            Scale::Linear => {
                let magnitude = 10f64.powf(((high - low) / 5.0).log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|k| k * magnitude);
                let step = step.into_iter().find(|s| (high - low) / s <= 6.0).unwrap_or(high - low);
                let digits = (-step.log10().floor()).max(0.0) as usize;
                let numbers = (low / step - 1e-9).ceil() as i64..=(high / step + 1e-9).floor() as i64;
                numbers.map(|k| k as f64 * step).map(|v| (v, format!("{v:.digits$}").replace('-', "−"))).collect()
            }
            Scale::Log => {
                let (first, last) = (low.log10() - 1e-9, high.log10() + 1e-9);
                let step = ((last - first) / 8.0).ceil() as i32;
                let exponents = first.ceil() as i32..=last.floor() as i32;
                let label =
                    |k: i32| format!(r#"10<tspan dy="-5" font-size="9">{}</tspan>"#, k.to_string().replace('-', "−"));
                exponents.filter(|k| k % step == 0).map(|k| (10f64.powi(k), label(k))).collect()
            }
        }
    }
}

impl Figure {
    /// The picture.
    pub fn svg(&self) -> String {
        let (width, height) = self.panel;
        let pitch = LEFT + width + RIGHT;
        let total = (pitch * self.panels.len() as f64, TOP + height + BOTTOM + LEGEND);
        let mut out = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" font-family="sans-serif" font-size="12" fill="none">
<rect width="100%" height="100%" fill="white"/>
<text x="{2}" y="24" font-size="15" fill="black" text-anchor="middle">{3}</text>
"#,
            total.0,
            total.1,
            total.0 / 2.0,
            self.title
        );
        for (i, panel) in self.panels.iter().enumerate() {
            let _ = writeln!(
                out,
                r#"<svg x="{}" y="{TOP}" width="{width}" height="{height}">{}</svg>"#,
                LEFT + i as f64 * pitch,
                panel.contents(width, height)
            );
            let _ = writeln!(
                out,
                r#"<g transform="translate({} {TOP})">{}</g>"#,
                LEFT + i as f64 * pitch,
                panel.frame(width, height)
            );
        }
        self.legend(&mut out, total);
        out + "</svg>\n"
    }

    fn legend(&self, out: &mut String, (width, height): (f64, f64)) {
        let mut entries: Vec<&Layer> = Vec::new();
        for layer in self.panels.iter().flat_map(|p| &p.layers) {
            if !layer.name.is_empty() && entries.iter().all(|e| e.name != layer.name) {
                entries.push(layer);
            }
        }
        // 7 is the width of a character, or a little more.
        let lengths: Vec<f64> = entries.iter().map(|e| 50.0 + 7.0 * e.name.chars().count() as f64).collect();
        let mut x = (width - lengths.iter().sum::<f64>()) / 2.0;
        let y = height - 16.0;
        for (entry, length) in entries.iter().zip(lengths) {
            let ends =
                if matches!(entry.mark, Mark::Line(_) | Mark::Dashed(_)) { vec![x, x + 24.0] } else { vec![x + 12.0] };
            entry.draw(out, &[ends.into_iter().map(|x| [x, y]).collect()]);
            let _ = writeln!(out, r#"<text x="{:.1}" y="{:.1}" fill="black">{}</text>"#, x + 31.0, y + 4.0, entry.name);
            x += length;
        }
    }
}

impl Panel {
    fn contents(&self, width: f64, height: f64) -> String {
        let mut out = String::new();
        for (ticks, horizontal) in [(self.x.ticks(), false), (self.y.ticks(), true)] {
            for (v, _) in ticks {
                let path = match horizontal {
                    true => format!("M0 {:.1}h{width}", height * (1.0 - self.y.place(v))),
                    false => format!("M{:.1} 0v{height}", width * self.x.place(v)),
                };
                let _ = write!(out, r##"<path d="{path}" stroke="#e8e8e8"/>"##);
            }
        }
        for layer in &self.layers {
            let place = |p: &[f64; 2]| [width * self.x.place(p[0]), height * (1.0 - self.y.place(p[1]))];
            let runs: Vec<Vec<_>> = layer.runs.iter().map(|run| run.iter().map(place).collect()).collect();
            layer.draw(&mut out, &runs);
        }
        out
    }

    fn frame(&self, width: f64, height: f64) -> String {
        let mut out = format!(r#"<rect width="{width}" height="{height}" stroke="black"/>"#);
        for (v, label) in self.x.ticks() {
            let x = width * self.x.place(v);
            let _ = write!(out, r#"<path d="M{x:.1} {height}v5" stroke="black"/>"#);
            let _ = write!(
                out,
                r#"<text x="{x:.1}" y="{}" fill="black" text-anchor="middle">{label}</text>"#,
                height + 19.0
            );
        }
        for (v, label) in self.y.ticks() {
            let y = height * (1.0 - self.y.place(v));
            let _ = write!(out, r#"<path d="M0 {y:.1}h-5" stroke="black"/>"#);
            let _ = write!(out, r#"<text x="-8" y="{:.1}" fill="black" text-anchor="end">{label}</text>"#, y + 4.0);
        }
        let (x, y) = (width / 2.0, height / 2.0);
        let _ = write!(out, r#"<text x="{x}" y="-10" fill="black" text-anchor="middle">{}</text>"#, self.title);
        let _ = write!(
            out,
            r#"<text x="{x}" y="{}" fill="black" text-anchor="middle">{}</text>"#,
            height + 40.0,
            self.x.label
        );
        let _ = write!(
            out,
            r#"<text transform="translate(-44 {y}) rotate(-90)" fill="black" text-anchor="middle">{}</text>"#,
            self.y.label
        );
        out
    }
}

impl Layer {
    /// Draws runs of points given in lengths.
    fn draw(&self, out: &mut String, runs: &[Vec<[f64; 2]>]) {
        let colour = self.colour;
        for run in runs {
            let (line, dash) = match self.mark {
                Mark::Line(w) => (Some(w), ""),
                Mark::Dashed(w) => (Some(w), r#" stroke-dasharray="6 4""#),
                Mark::Disc(_) | Mark::Circle(_) => (None, ""),
            };
            if let Some(w) = line {
                let path: String = run.iter().map(|[x, y]| format!("{x:.2},{y:.2} ")).collect();
                let path = path.trim_end();
                let _ = writeln!(out, r#"<polyline points="{path}" stroke="{colour}" stroke-width="{w}"{dash}/>"#);
            }
            for [x, y] in run {
                let _ = match self.mark {
                    Mark::Disc(r) => writeln!(out, r#"<circle cx="{x:.2}" cy="{y:.2}" r="{r}" fill="{colour}"/>"#),
                    Mark::Circle(r) => writeln!(out, r#"<circle cx="{x:.2}" cy="{y:.2}" r="{r}" stroke="{colour}"/>"#),
                    Mark::Line(_) | Mark::Dashed(_) => Ok(()),
                };
            }
        }
    }
}
