import { spawnSync } from 'node:child_process';

/**
 * Tests start `bin/lanegate.js`, which runs dist: built once, before the first of them. A type error does not keep
 * single test files from running while one works on them; `npm test` and the type check refuse it.
 */
export default function setup(): void {
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
  if (status !== 0) console.warn('the build has errors: tests that start bin/lanegate.js may run an old one');
}
