#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { modifiedMs, newestSourceMs, STAMP } from './freshness.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const main = new URL('../dist/cli/main.js', import.meta.url);

if (!existsSync(fileURLToPath(main))) {
  process.stderr.write('lanegate: dist is missing\n  npm ci && npm run build\n');
  process.exitCode = 1;
} else {
  if (newestSourceMs(root) > modifiedMs(join(root, STAMP)) + 1) {
    process.stderr.write(
      'lanegate: dist is older than the sources; this runs the old build\n  npm run build\n',
    );
  }
  await (await import(main.href)).main();
}
