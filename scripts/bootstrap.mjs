// What `npm start`, `npm test` and `npm run bench` need on a machine with nothing but Node and git: the packages of
// the lock file, a Redis-protocol server, a build. Imports nothing that has to be installed.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const NODE_MIN = [20, 19];

/** Ends the process with a sentence where something cannot be had. */
export async function bootstrap() {
  requireNode();
  installPackages();
  if (!installServer()) {
    fail(
      'no redis-server or valkey-server on PATH: install one (https://redis.io/docs/latest/operate/oss_and_stack/install/)',
    );
  }
  const { build } = await import('./build.mjs');
  if ((await build()) !== 0) fail('the build failed');
}

function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return;
  fail(`Node ${NODE_MIN.join('.')} or newer is needed, this is ${process.versions.node}`);
}

function installPackages() {
  if (packagesAreCurrent()) return;
  if (!run('npm', ['ci', '--include=dev'])) fail('npm ci failed');
}

/** Compares content, not times: a checkout gives every file the time of the checkout. */
function packagesAreCurrent() {
  const installed = readPackages('node_modules/.package-lock.json');
  const wanted = readPackages('package-lock.json') ?? {};
  if (installed === undefined) return false;
  return Object.entries(wanted).every(([path, { version, optional, devOptional, link }]) => {
    if (path === '' || link) return true;
    const found = installed[path];
    // Optional ones may be for another platform.
    return found === undefined ? optional === true || devOptional === true : found.version === version;
  });
}

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** True once a server is on PATH. */
export function installServer() {
  const found = () => onPath('redis-server') || onPath('valkey-server');
  if (found()) return true;
  const asRoot = process.getuid?.() === 0;
  if (onPath('apt-get') && (asRoot || succeeds('sudo', ['-n', 'true']))) {
    // RUNLEVEL=1 keeps the package from starting a service on port 6379; ours are started by hand on free ports.
    const prefix = [...(asRoot ? [] : ['sudo', '-n']), 'env', 'RUNLEVEL=1', 'DEBIAN_FRONTEND=noninteractive'];
    const apt = (...args) => run(prefix[0], [...prefix.slice(1), 'apt-get', ...args]);
    apt('update');
    apt('install', '-y', '--no-install-recommends', 'redis-server');
  } else if (onPath('brew')) {
    run('brew', ['install', 'redis']);
  }
  return found();
}

function run(command, args) {
  process.stdout.write(`> ${[command, ...args].join(' ')}\n`);
  // npm is a .cmd file on Windows, which only a shell starts.
  return (
    spawnSync(command, args, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' }).status ===
    0
  );
}

function succeeds(command, args) {
  return onPath(command) && spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

export function onPath(command) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    const path = join(folder || '.', command);
    if (!existsSync(path)) return false;
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function fail(sentence) {
  process.stderr.write(`lanegate: ${sentence}\n`);
  process.exit(1);
}
