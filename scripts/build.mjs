// tsc, then what tsc leaves behind (*.lua and other files that are not TypeScript), then the command line as few files:
// loading some hundred modules one by one costs more than half of a start. Quiet when there is nothing to do.
// Also npm's `prepare`: in a package without sources or compiler it does nothing.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { filesBelow, modifiedMs, newestSourceMs, SOURCE_FOLDERS, STAMP } from '../bin/freshness.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const BUNDLE = join(root, 'dist/cli');
/** Loaded late or fast by themselves, or looking for their own files. */
const NOT_BUNDLED = ['@bull-board/*', 'fastify', 'pino-pretty', 'prom-client', 'protobufjs', 'yaml'];

/** Returns the exit code. */
export async function build() {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const newestMs = newestSourceMs(root);
  const stamp = join(root, STAMP);
  if (newestMs === 0 || !existsSync(compiler) || modifiedMs(stamp) + 1 >= newestMs) return 0;
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.json'], {
    cwd: root,
    stdio: 'inherit',
  });
  copyOthers();
  removeOrphans();
  if (status !== 0) return status ?? 1;
  await bundle();
  writeFileSync(stamp, '');
  // Not the present time: a source saved while tsc ran must make the next build run.
  utimesSync(stamp, newestMs / 1000, newestMs / 1000);
  return 0;
}

async function bundle() {
  const esbuild = await import('esbuild');
  rmSync(BUNDLE, { recursive: true, force: true });
  await esbuild.build({
    entryPoints: [join(root, 'src/main.ts')],
    outdir: BUNDLE,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: NOT_BUNDLED,
    logLevel: 'warning',
    // For dependencies that are CommonJS.
    banner: {
      js: "import { createRequire as createRequireOfBundle } from 'node:module'; const require = createRequireOfBundle(import.meta.url);",
    },
  });
  for (const path of others()) copyFileSync(path, join(BUNDLE, basename(path)));
}

function others() {
  const paths = SOURCE_FOLDERS.flatMap((folder) => filesBelow(root, folder));
  return paths.filter((path) => !path.endsWith('.ts'));
}

function copyOthers() {
  for (const path of others()) {
    const copy = join(root, 'dist', relative(root, path));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(path, copy);
  }
}

/** A module that was renamed must not go on living in dist. */
function removeOrphans() {
  for (const path of SOURCE_FOLDERS.flatMap((folder) => filesBelow(root, join('dist', folder)))) {
    const source = join(root, relative(join(root, 'dist'), path));
    const compiled = source.replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts');
    if (!existsSync(source) && !existsSync(compiled)) rmSync(path);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = await build();
