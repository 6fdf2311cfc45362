//! Columns as Go's `text/tabwriter` lays them out for Docker: at least 10 wide, three blanks between.

/// The narrowest column of Docker's lists.
const MINIMUM: usize = 10;
const PADDING: usize = 3;

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Lays out lines whose cells are separated by tabs. A line's last cell is not padded, and, as in
/// `tabwriter`, a column is as wide as its block: the neighbouring lines that have a cell after it.
pub fn align(text: &str) -> String {
    align_to(text, MINIMUM)
}

/// The same with another narrowest column; `top` has 20.
pub fn align_to(text: &str, minimum: usize) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns.saturating_sub(1) {
        let mut start = 0;
        while start < lines.len() {
            let has = |line: &Vec<&str>| column + 1 < line.len();
            if !has(&lines[start]) {
                start += 1;
                continue;
            }
            let end = lines[start..]
                .iter()
                .position(|line| !has(line))
                .map_or(lines.len(), |n| start + n);
            let widest = lines[start..end].iter().map(|l| width(l[column])).max();
            let cell = (widest.unwrap_or(0) + PADDING).max(minimum);
            for line in &mut widths[start..end] {
                line[column] = cell;
            }
            start = end;
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, wide) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(cell))));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_line_up_as_docker_shows_them() {
        expect![[r#"
            CONTAINER ID   IMAGE     COMMAND   NAMES
            4c01db0b339c   debian    "bash"    brave_hopper
        "#]]
        .assert_eq(&align(
            "CONTAINER ID\tIMAGE\tCOMMAND\tNAMES\n4c01db0b339c\tdebian\t\"bash\"\tbrave_hopper\n",
        ));
    }

    #[test]
    fn the_last_cell_is_bare_and_wide_letters_count_once() {
        assert_eq!(align("ü\tx"), "ü         x\n");
        assert_eq!(align(""), "");
    }
}
