// The directory on disk that holds one full sync: its snapshot, and the stream behind it as far as it could not be
// kept in memory. Named by a random id that positions carry; the id begins with the time, so that ids sort by age.
//
//   <dataDir>/spool/<pipeline>/<id>/snapshot.rdb.part      while it arrives
//                                   snapshot.rdb           whole and on the disk for good
//                                   stream-<replid>-<start offset>-<random>.log
//
// A process writes only files that it has made, so one that was thought dead cannot spoil what its successor writes.
// All files together stay below `bytesMax`.

import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Bell } from './bell.ts';

const ID = /^[0-9a-z]{9}-[0-9a-f]{16}$/;

export class Spool {
  readonly id: string;
  readonly path: string;
  readonly bytesMax: number;
  /** Rings when there is more room. */
  readonly freed = new Bell();
  readonly #root: string;
  #bytes: number;

  private constructor(root: string, id: string, bytesMax: number, bytes: number) {
    this.#root = root;
    this.id = id;
    this.path = join(root, id);
    this.bytesMax = bytesMax;
    this.#bytes = bytes;
  }

  static async create(root: string, bytesMax: number): Promise<Spool> {
    const id = `${Spool.idAt(Date.now())}-${randomBytes(8).toString('hex')}`;
    await mkdir(join(root, id), { recursive: true, mode: 0o700 });
    await syncDirectory(root);
    return new Spool(root, id, bytesMax, 0);
  }

  /** Undefined if it is not on this machine, or no longer. */
  static async find(root: string, id: string, bytesMax: number): Promise<Spool | undefined> {
    if (!ID.test(id)) return undefined;
    const names = await readdir(join(root, id)).catch(() => undefined);
    if (names === undefined) return undefined;
    const sizes = await Promise.all(names.map((name) => sizeOf(join(root, id, name))));
    const bytes = sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
    return new Spool(root, id, bytesMax, bytes);
  }

  /** Newest first. */
  static async list(root: string): Promise<string[]> {
    const names = await readdir(root).catch(() => []);
    return names
      .filter((name) => ID.test(name))
      .sort()
      .reverse();
  }

  static async removeAll(root: string): Promise<void> {
    await rm(root, { recursive: true, force: true });
  }

  get bytes(): number {
    return this.#bytes;
  }

  hasRoom(bytes: number): boolean {
    return this.#bytes + bytes <= this.bytesMax;
  }

  account(bytes: number): void {
    this.#bytes += bytes;
    if (bytes < 0) this.freed.ring();
  }

  file(name: string): string {
    return join(this.path, name);
  }

  get snapshotPath(): string {
    return this.file('snapshot.rdb');
  }

  /** The whole snapshot's size; undefined unless it is complete. */
  snapshotBytes(): Promise<number | undefined> {
    return sizeOf(this.snapshotPath);
  }

  /** The snapshot under its final name, for good. */
  async completeSnapshot(part: string): Promise<void> {
    await rename(part, this.snapshotPath);
    await syncDirectory(this.path);
  }

  async removeSnapshot(): Promise<void> {
    const bytes = await this.snapshotBytes();
    if (bytes !== undefined) await this.removeFile('snapshot.rdb', bytes);
  }

  async removeFile(name: string, bytes: number): Promise<void> {
    await rm(this.file(name), { force: true });
    this.account(-bytes);
  }

  /** What earlier links left: a newer one may be another process's that has yet to begin. */
  removeOlder(): Promise<void> {
    return Spool.removeOlderThan(this.#root, this.id);
  }

  static async removeOlderThan(root: string, id: string): Promise<void> {
    const ids = await Spool.list(root);
    const older = ids.filter((one) => one < id);
    await Promise.all(older.map((one) => rm(join(root, one), { recursive: true, force: true })));
  }

  /** As ids begin that are made now. */
  static idAt(timeMs: number): string {
    return timeMs.toString(36).padStart(9, '0');
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function isDiskFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT';
}
