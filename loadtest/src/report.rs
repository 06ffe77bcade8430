//! Results for people: a few lines for a terminal, and a page that needs nothing but itself.

mod plot;

use std::fmt::Write;

use crate::compare::Change;
use crate::outcome::{Latency, Measured, Outcome, Second};
use plot::{Line, plot};

/// What stands in the page's head.
const STYLE: &str = include_str!("report/style.css");

/// For a terminal.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut text = format!("{} on {} ({})\n", outcome.scenario, outcome.label, outcome.station);
    for measured in &outcome.measured {
        let _ = writeln!(text, "  {}", measured.name);
        for (name, value) in rows(measured) {
            let _ = writeln!(text, "    {name:<26}{value}");
        }
        for note in &measured.notes {
            let _ = writeln!(text, "    - {note}");
        }
    }
    text
}

/// Name and value of everything that was measured, the same names for everybody.
fn rows(measured: &Measured) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row(&measured.unit, grouped(measured.count));
    row("a second", format!("{:.0}", measured.per_second));
    row("seconds", format!("{:.1}", measured.seconds));
    if let Some(latency) = &measured.latency {
        row("latency", percentiles(latency));
    }
    if let Some(completion) = &measured.completion {
        row("until the last has it", percentiles(completion));
    }
    if let Some(us) = measured.server_us {
        row("server CPU each", format!("{us:.1} us"));
    }
    let server = measured.server_cores.map(|cores| format!("server {cores:.2}, "));
    let (server, client) = (server.unwrap_or_default(), measured.client_cores);
    row("cores", format!("{server}client {client:.2}, others {:.2}", measured.other_cores));
    if let Some(mib) = measured.rss_mib {
        row("server memory", format!("{mib:.1} MiB"));
    }
    if let Some(kib) = measured.rss_kib_each {
        row("memory each", format!("{kib:.2} KiB"));
    }
    let check = &measured.check;
    let verdict = match check.is_perfect() {
        true => format!("perfect: {} of {}", grouped(check.delivered), grouped(check.sent)),
        false => format!(
            "NOT PERFECT: {} of {}; lost {}, twice {}, out of order {}, changed {}, misdirected {}, \
            refused {}, cut off {}",
            grouped(check.delivered),
            grouped(check.sent),
            check.lost,
            check.repeated,
            check.disordered,
            check.changed,
            check.misdirected,
            check.refused,
            check.broken
        ),
    };
    row("delivery", verdict);
    rows
}

fn percentiles(latency: &Latency) -> String {
    let Latency { p50, p90, p99, p999, max, .. } = latency;
    let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|us| *us as f64 / 1000.0);
    format!("p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2} ms")
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text where HTML is expected.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            plain => safe.push(plain),
        }
    }
    safe
}

/// A page of results; those of one scenario stand side by side.
pub(crate) fn page(outcomes: &[Outcome], changes: &[Change]) -> String {
    let mut scenarios: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !scenarios.contains(&outcome.scenario.as_str()) {
            scenarios.push(&outcome.scenario);
        }
    }
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Load test</title>\n\
        <style>{STYLE}</style></head><body>\n<h1>Load test of a DIM station</h1>\n"
    );
    for scenario in scenarios {
        let together: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.scenario == scenario).collect();
        section(&together, &mut html);
    }
    if !changes.is_empty() {
        compared(changes, &mut html);
    }
    html.push_str("</body></html>\n");
    html
}

fn section(outcomes: &[&Outcome], html: &mut String) {
    let Some(first) = outcomes.first() else {
        return;
    };
    let (name, about) = (escape(&first.scenario), escape(&first.about));
    let _ = write!(html, "<h2>{name}</h2>\n<p>{about}</p>\n<ul>");
    for outcome in outcomes {
        let machine = &outcome.machine;
        let mut keys = if outcome.small { "small keys".to_owned() } else { String::new() };
        keys += &outcome.set.iter().map(|set| format!(" {set}")).collect::<String>();
        let _ = write!(
            html,
            "<li><b>{}</b> is {}; client and station on {} x {}, Linux {} {}</li>",
            escape(&outcome.label),
            escape(&outcome.station),
            machine.cores,
            escape(&machine.model),
            escape(&machine.kernel),
            escape(keys.trim())
        );
    }
    html.push_str("</ul>\n");
    let mut names: Vec<&str> = Vec::new();
    for measured in outcomes.iter().flat_map(|outcome| &outcome.measured) {
        if !names.contains(&measured.name.as_str()) {
            names.push(&measured.name);
        }
    }
    for name in names {
        let of = |outcome: &&'_ Outcome| {
            let measured = outcome.measured.iter().find(|measured| measured.name == name)?;
            Some((outcome.label.clone(), measured.clone()))
        };
        let columns: Vec<(String, Measured)> = outcomes.iter().filter_map(of).collect();
        let _ = writeln!(html, "<h3>{}</h3>", escape(name));
        table(&columns, html);
        plots(&columns, html);
    }
}

fn table(columns: &[(String, Measured)], html: &mut String) {
    html.push_str("<table><tr><th></th>");
    for (label, _) in columns {
        let _ = write!(html, "<th>{}</th>", escape(label));
    }
    html.push_str("</tr>\n");
    let all: Vec<Vec<(String, String)>> =
        columns.iter().map(|(_, measured)| rows(measured)).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let _ = write!(html, "<tr><th>{}</th>", escape(name));
        for rows in &all {
            let value = rows.iter().find(|(row, _)| row == name).map_or("", |(_, value)| value);
            let class = if value.starts_with("NOT ") { " class=\"bad\"" } else { "" };
            let _ = write!(html, "<td{class}>{}</td>", escape(value));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    for (label, measured) in columns {
        for note in &measured.notes {
            let _ = writeln!(html, "<p class=\"note\">{}: {}</p>", escape(label), escape(note));
        }
    }
}

fn plots(columns: &[(String, Measured)], html: &mut String) {
    type Figure = fn(&Second) -> Option<f64>;
    let figures: [(&str, Figure); 4] = [
        ("a second", |second| Some(second.rate())),
        ("p99 latency, ms", |second| (second.p99 > 0).then_some(second.p99 as f64 / 1000.0)),
        ("server CPU each, us", |second| {
            let us = second.server_us.filter(|_| second.count > 0)?;
            Some(us as f64 / second.count as f64)
        }),
        ("server memory, MiB", |second| Some(second.rss_kib? as f64 / 1024.0)),
    ];
    html.push_str("<div class=\"plots\">");
    for (title, figure) in figures {
        let line = |(label, measured): &(String, Measured)| Line {
            label: label.clone(),
            points: (measured.series.iter())
                .filter_map(|second| Some((second.at_s, figure(second)?)))
                .collect(),
        };
        let lines: Vec<Line> = columns.iter().map(line).collect();
        html.push_str(&plot(title, &lines));
    }
    html.push_str("</div>\n");
}

fn compared(changes: &[Change], html: &mut String) {
    html.push_str(
        "<h2>Compared with the earlier result</h2>\n<table><tr><th>phase</th><th>figure</th>\
        <th>before</th><th>now</th><th>95 % of the ratio</th><th></th></tr>\n",
    );
    for change in changes {
        let ratio = change.ratio.map_or(String::new(), |(a, b)| format!("{a:.3} to {b:.3}"));
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td><td>{ratio}</td><td>{}</td></tr>",
            escape(&change.phase),
            change.what,
            change.old,
            change.new,
            change.verdict()
        );
    }
    html.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Check;

    fn outcome(label: &str) -> Outcome {
        let second = |at: u64| Second {
            at_s: at as f64,
            span_s: 1.0,
            count: 100 + at,
            p50: 500,
            p99: 2000,
            server_us: Some(5000),
            rss_kib: Some(4096),
        };
        let check = Check { sent: 10, delivered: 9, lost: 1, ..Check::default() };
        let measured = Measured {
            name: "re<lay".to_owned(),
            unit: "messages".to_owned(),
            count: 1_234_567,
            latency: Some(Latency { p50: 1500, ..Latency::default() }),
            notes: vec!["receipt \"a & b\"".to_owned()],
            series: (0..5).map(second).collect(),
            check,
            ..Measured::default()
        };
        Outcome {
            label: label.to_owned(),
            scenario: "sce<nario".to_owned(),
            measured: vec![measured],
            ..Outcome::default()
        }
    }

    #[test]
    fn what_others_wrote_cannot_become_markup() {
        let html = page(&[outcome("<script>alert(1)</script>")], &[]);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
        assert!(!html.contains("re<lay") && !html.contains("sce<nario"));
        assert!(html.contains("&quot;a &amp; b&quot;"));
        assert_eq!(escape("a'b"), "a&#39;b");
    }

    #[test]
    fn a_page_needs_nothing_but_itself_and_says_what_was_not_perfect() {
        let html = page(&[outcome("one"), outcome("two")], &[]);
        for outside in ["http", "src=", "href=", "@import", "url(", "<script", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert_eq!(html.matches("<h2>").count(), 1, "one scenario");
        assert_eq!(html.matches("class=\"bad\"").count(), 2);
        assert!(html.contains("<th>one</th><th>two</th>"));
        assert!(html.contains("1,234,567") && html.contains("p50 1.50"));
        assert_eq!(html.matches("<svg").count(), 4);
        assert!(text(&outcome("one")).contains("NOT PERFECT: 9 of 10; lost 1"));
    }

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
