// Writes the options table between the markers of README.md; --check only says whether it is current.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { build } from './build.mjs';

const BEGIN = '<!-- options:begin, written by `npm run docs` -->\n';
const END = '<!-- options:end -->';
const readme = new URL('../README.md', import.meta.url);

if ((await build()) !== 0) process.exit(1);
const { optionsTable } = await import('../dist/src/config-help.js');
const text = existsSync(readme) ? readFileSync(readme, 'utf8') : '';
const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
if (begin < 0 || end < begin) fail(`README.md lacks the lines\n${BEGIN}${END}`);
const wanted = `${text.slice(0, begin)}${BEGIN}\n${optionsTable()}\n${text.slice(end)}`;
if (wanted !== text) {
  if (process.argv.includes('--check')) fail('README.md is not current: npm run docs');
  writeFileSync(readme, wanted);
}

function fail(sentence) {
  process.stderr.write(`docs: ${sentence}\n`);
  process.exit(1);
}
