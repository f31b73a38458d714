import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { messageOf, StopError } from '../runtime/errors.ts';

const NAMES = ['redis-server', 'valkey-server'] as const;
const VERSION_MIN = [6, 2] as const;
const VERSION_MS_MAX = 10_000;
const INSTALL_HINT =
  'install one (Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis), point ' +
  'LANEGATE_REDIS_SERVER at a redis-server or valkey-server, or give --queue';

/**
 * Path of a server that is new enough: LANEGATE_REDIS_SERVER, else the first on PATH.
 * @throws StopError NO_REDIS_SERVER or REDIS_SERVER_TOO_OLD.
 */
export async function findQueueBinary(env: NodeJS.ProcessEnv): Promise<string> {
  const binary = locate(env);
  const version = await versionOf(binary);
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < VERSION_MIN[0] || (major === VERSION_MIN[0] && minor < VERSION_MIN[1])) {
    throw new StopError(
      'REDIS_SERVER_TOO_OLD',
      `${binary} is version ${version}; ${VERSION_MIN.join('.')} is needed`,
      {
        hint: INSTALL_HINT,
        facts: { version },
      },
    );
  }
  return binary;
}

function locate(env: NodeJS.ProcessEnv): string {
  const named = env.LANEGATE_REDIS_SERVER;
  if (named !== undefined && named !== '') {
    const path = named.includes('/') ? named : onPath(named, env);
    if (path !== undefined && isExecutable(path)) return path;
    throw new StopError('NO_REDIS_SERVER', `LANEGATE_REDIS_SERVER names no program: ${named}`, {
      hint: INSTALL_HINT,
    });
  }
  for (const name of NAMES) {
    const path = onPath(name, env);
    if (path !== undefined) return path;
  }
  throw new StopError('NO_REDIS_SERVER', 'no redis-server or valkey-server on PATH for the embedded queue', {
    hint: INSTALL_HINT,
  });
}

function onPath(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

async function versionOf(binary: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(binary, ['--version'], { timeout: VERSION_MS_MAX });
    const version = /\bv=(\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1];
    if (version !== undefined) return version;
  } catch (cause) {
    throw new StopError('NO_REDIS_SERVER', `${binary} does not run: ${messageOf(cause)}`, {
      hint: INSTALL_HINT,
      cause,
    });
  }
  throw new StopError('NO_REDIS_SERVER', `${binary} --version does not answer as redis-server does`, {
    hint: INSTALL_HINT,
  });
}
