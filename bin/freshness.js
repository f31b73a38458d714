import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

export const SOURCE_FOLDERS = ['src', 'queues', 'processors'];

/** Written by scripts/build.mjs after a build without errors; its time is that of the newest source it built. */
export const STAMP = 'dist/.built';

/** Every file below `folder`, relative to `root`; none if the folder is missing. */
export function filesBelow(root, folder) {
  try {
    const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
}

/** Modification time in ms; 0 for a file that does not exist. */
export function modifiedMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** 0 where there are no sources: installed from a tarball. */
export function newestSourceMs(root) {
  const sources = SOURCE_FOLDERS.flatMap((folder) => filesBelow(root, folder));
  if (sources.length === 0) return 0;
  return Math.max(...[...sources, join(root, 'tsconfig.json')].map(modifiedMs));
}
