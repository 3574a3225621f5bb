// CSV, with lines that end in CR LF.

// Spreadsheets run cells that begin like this as formulas. A leading apostrophe makes them text; polytag removes it
// again when it reads the file.
const FORMULA = /^'*[=+\-@\t\r]/;

function cell(value) {
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const csv = (lines) => lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
