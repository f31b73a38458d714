import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/runtime/package.ts';

// What `npm pack` makes is unpacked in an empty folder, beside the dependencies, and used from there.

const run = promisify(execFile);
const MAX_UNPACKED = 6 * 1024 * 1024;

interface Packed {
  readonly filename: string;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string }[];
}

describe('the tarball', () => {
  let folder = '';
  let home = '';
  let packed: Packed;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lanegate-pack-'));
    const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
    const { stdout } = await run('npm', args, { cwd: packageRoot() });
    [packed] = JSON.parse(stdout) as [Packed];
    const modules = join(folder, 'node_modules');
    home = join(modules, 'lanegate');
    await mkdir(home, { recursive: true });
    await run('tar', ['-xzf', join(folder, packed.filename), '-C', home, '--strip-components=1']);
    const { dependencies } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8'));
    // Whoever installs it gets these and no more: a development dependency that it needs would be missed.
    for (const name of Object.keys(dependencies)) {
      await mkdir(join(modules, name, '..'), { recursive: true });
      await symlink(join(packageRoot(), 'node_modules', name), join(modules, name));
    }
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('holds what runs and what people read, and no map whose sources are not there', () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of ['bin/lanegate.js', 'dist/cli/main.js', 'dist/src/index.d.ts', 'README.md', 'LICENSE'])
      expect(paths).toContain(path);
    expect(paths).toContain('dist/src/journal/begin.lua');
    expect(paths.filter((path) => /\.map$|^(src|test|bench|scripts)\//.test(path))).toEqual([]);
    expect(packed.unpackedSize).toBeLessThan(MAX_UNPACKED);
  });

  test('every module has its Lua beside it', async () => {
    const lua = (await readdir(join(packageRoot(), 'src/journal'))).filter((name) => name.endsWith('.lua'));
    expect(lua.length).toBeGreaterThan(5);
    for (const name of lua)
      for (const folder of ['src/journal', 'cli'])
        expect(existsSync(join(home, 'dist', folder, name)), name).toBe(true);
  });

  test('its command runs, and names a place in its own code when it fails unexpectedly', async () => {
    const bin = join(home, 'bin/lanegate.js');
    const { version } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8'));
    expect((await run(process.execPath, [bin, '--version'])).stdout).toBe(`${version}\n`);
    const { stdout } = await run(process.execPath, [bin, 'explain', '--json', 'FLUSHDB']);
    expect(JSON.parse(stdout)).toMatchObject({ class: 'global' });
    const nowhere = 'redis://127.0.0.1:9';
    const args = [bin, 'reset', '--target', nowhere, '--queue', nowhere, '--log-level', 'debug'];
    const failed = await run(process.execPath, args).then(
      () => ({ stderr: '' }),
      (error: { stderr: string }) => error,
    );
    expect(failed.stderr).toMatch(/lanegate: .*ECONNREFUSED/);
    expect(failed.stderr).toMatch(/at .*dist\/cli\/\S+\.js:\d+:\d+/);
  });

  test('its classes are imported by name, with their types beside them', async () => {
    const script = join(folder, 'use.mjs');
    await writeFile(
      script,
      "import { BinlogWriter } from 'lanegate';\nconsole.log(typeof BinlogWriter.prototype.append);\n",
    );
    expect((await run(process.execPath, [script])).stdout).toBe('function\n');
    expect(await readFile(join(home, 'dist/src/index.d.ts'), 'utf8')).toContain('BinlogWriter');
  });
});
