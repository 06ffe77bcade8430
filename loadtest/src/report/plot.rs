//! Lines over time, as SVG.

use std::fmt::Write;

use super::escape;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers on the left, and for title and legend.
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 25.0;
const RIGHT: f64 = 12.0;
/// Apart also for those who see few colours.
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Horizontal lines above the lowest.
const STEPS: usize = 4;

/// One line: seconds and values.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// The smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    // The logarithm may be off by its last bit.
    let fits = steps.iter().find(|step| *step * power >= value * (1.0 - 1e-12));
    fits.unwrap_or(&10.0) * power
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => {
            format!("{:.4}", v / 1e6).trim_end_matches('0').trim_end_matches('.').to_owned() + " M"
        }
        v if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

/// A plot from zero up; nothing where there are no points.
pub(super) fn plot(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return String::new();
    }
    let highest = round_up(points().map(|(_, value)| *value).fold(0.0, f64::max));
    let last_s = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let x = |at: f64| LEFT + at / last_s * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\
        <text x=\"8\" y=\"15\" font-weight=\"bold\">{}</text>",
        escape(title)
    );
    for step in 0..=STEPS {
        let value = highest * step as f64 / STEPS as f64;
        let (at, right, text) = (y(value), WIDTH - RIGHT, LEFT - 5.0);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
            <text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            at + 4.0,
            number(value)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\">0</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{last_s:.0} s</text>",
        HEIGHT - 8.0,
        WIDTH - RIGHT,
        HEIGHT - 8.0
    );
    for (place, line) in lines.iter().enumerate() {
        let color = COLORS[place % COLORS.len()];
        let path: String = line
            .points
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1} ", x(*at), y(*value)))
            .collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\
            <text x=\"{}\" y=\"30\" style=\"fill:{color}\">{}</text>",
            path.trim_end(),
            LEFT + 120.0 * place as f64,
            escape(&line.label)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let rounded = [0.03, 1.0, 1.1, 21.0, 260.0, 1000.0, 0.0, f64::NAN].map(round_up);
        assert_eq!(rounded, [0.05, 1.0, 2.0, 25.0, 500.0, 1000.0, 1.0, 1.0]);
        assert_eq!([0.25, 3.0, 1234.5, 2.5e6].map(number), ["0.25", "3", "1234", "2.5 M"]);
    }

    #[test]
    fn points_lie_within_the_frame() {
        let line = Line { label: "a<b".to_owned(), points: vec![(0.0, 0.0), (10.0, 100.0)] };
        let svg = plot("t", &[line]);
        assert!(svg.contains("points=\"60.0,175.0 408.0,40.0\""), "{svg}");
        assert!(svg.contains("a&lt;b"));
        assert_eq!(plot("t", &[Line { label: String::new(), points: Vec::new() }]), "");
    }
}
