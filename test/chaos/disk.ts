import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BLOCK = Buffer.alloc(1 << 20);

/** A file system of its own in memory, which can be filled up. */
export class SmallDisk implements AsyncDisposable {
  readonly dir: string;
  readonly #unmount = () => void spawnSync('umount', ['-l', this.dir]);

  private constructor(dir: string) {
    this.dir = dir;
    process.on('exit', this.#unmount);
  }

  /** undefined where this process may not mount. */
  static async mount(mebibytes: number): Promise<SmallDisk | undefined> {
    const dir = await mkdtemp(join(tmpdir(), 'lanegate-disk-'));
    const options = ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'lanegate-chaos', dir];
    if (spawnSync('mount', options, { stdio: 'ignore' }).status === 0) return new SmallDisk(dir);
    await rm(dir, { recursive: true });
    return undefined;
  }

  /** Takes all that is free. */
  async fill(): Promise<void> {
    const file = await open(join(this.dir, 'filler'), 'w');
    try {
      for (let size = BLOCK.length; size >= 512; ) {
        // A short write or ENOSPC: try with less.
        const written = await file.write(BLOCK, 0, size).then(
          ({ bytesWritten }) => bytesWritten,
          () => 0,
        );
        if (written < size) size = Math.floor(size / 2);
      }
    } finally {
      await file.close();
    }
  }

  free(): void {
    if (existsSync(this.dir)) rmSync(join(this.dir, 'filler'), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#unmount);
    this.#unmount();
    await rm(this.dir, { recursive: true, force: true });
  }
}
