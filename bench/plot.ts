// Small line charts side by side as one SVG, without a dependency. Every chart has the same scale, so that they compare.

export interface Chart {
  readonly title: string;
  readonly points: readonly { readonly label: string; readonly value: number; readonly note: string }[];
}

interface Area {
  readonly left: number;
  readonly top: number;
}

const CHART = { width: 400, height: 230 };
const PLOT = { left: 44, right: 20, top: 44, bottom: 34 };
const COLUMNS = 2;
const TITLE_HEIGHT = 34;
const TICKS = 4;

/** `unit` is what the values of all charts are. @throws Error for no charts, no points, or a value that is no number */
export function plot(title: string, unit: string, charts: readonly Chart[]): string {
  const values = charts.flatMap(({ points }) => points.map(({ value }) => value));
  if (charts.length === 0 || charts.some(({ points }) => points.length === 0)) throw new Error('no points');
  if (!values.every((value) => Number.isFinite(value) && value >= 0)) throw new Error('not a number');
  const top = ceilingOf(Math.max(...values));
  const width = CHART.width * Math.min(COLUMNS, charts.length);
  const height = TITLE_HEIGHT + CHART.height * Math.ceil(charts.length / COLUMNS);
  const drawn = charts.map((chart, at) =>
    chartOf(chart, top, {
      left: CHART.width * (at % COLUMNS),
      top: TITLE_HEIGHT + CHART.height * Math.floor(at / COLUMNS),
    }),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="sans-serif" font-size="11" fill="#1f2328">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="${PLOT.left}" y="22" font-size="14" font-weight="bold">${escaped(title)}</text>`,
    `<text x="${width - PLOT.right}" y="22" text-anchor="end" fill="#59636e">${escaped(unit)}</text>`,
    ...drawn,
    '</svg>',
    '',
  ].join('\n');
}

function chartOf({ title, points }: Chart, top: number, area: Area): string {
  const inner = {
    left: area.left + PLOT.left,
    top: area.top + PLOT.top,
    width: CHART.width - PLOT.left - PLOT.right,
    height: CHART.height - PLOT.top - PLOT.bottom,
  };
  const xOf = (at: number) => inner.left + (inner.width * (at + 0.5)) / points.length;
  const yOf = (value: number) => inner.top + inner.height * (1 - value / top);
  const grid = Array.from({ length: TICKS + 1 }, (_, tick) => {
    const value = (top * tick) / TICKS;
    const y = yOf(value).toFixed(1);
    const line = `<line x1="${inner.left}" x2="${inner.left + inner.width}" y1="${y}" y2="${y}" stroke="#d1d9e0"/>`;
    return `${line}<text x="${inner.left - 6}" y="${y}" dy="4" text-anchor="end" fill="#59636e">${shown(value)}</text>`;
  });
  const path = points.map(({ value }, at) => `${xOf(at).toFixed(1)},${yOf(value).toFixed(1)}`);
  const dots = points.map(({ label, value, note }, at) => {
    const [x, y] = [xOf(at).toFixed(1), yOf(value)];
    return [
      `<circle cx="${x}" cy="${y.toFixed(1)}" r="3.5" fill="#0969da"/>`,
      `<text x="${x}" y="${(y - 9).toFixed(1)}" text-anchor="middle">${escaped(note)}</text>`,
      `<text x="${x}" y="${inner.top + inner.height + 18}" text-anchor="middle">${escaped(label)}</text>`,
    ].join('');
  });
  return [
    `<text x="${inner.left}" y="${area.top + 18}" font-weight="bold">${escaped(title)}</text>`,
    ...grid,
    `<polyline points="${path.join(' ')}" fill="none" stroke="#0969da" stroke-width="2"/>`,
    ...dots,
  ].join('\n');
}

/** The next higher of 1, 2, 4 or 5 times a power of ten, with room above the line for a note. */
function ceilingOf(value: number): number {
  if (value === 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value * 1.1));
  const step = [1, 2, 4, 5, 10].find((one) => one * power >= value * 1.1) ?? 10;
  return step * power;
}

function shown(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
