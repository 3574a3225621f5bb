// Convert rows to CSV with CR LF line endings.

// Spreadsheets run cells that begin with one of these characters as formulas. A leading apostrophe turns the formula
// into text, and polytag removes the apostrophe when it reads the file.
const FORMULA = /^'*[=+\-@\t\r\n＝＋－＠]/;

function cell(value) {
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const csv = (lines) => lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
