/** At most `max` tasks at a time, begun in the order in which they were asked for. */
export class Limit {
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #begun = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(max: number) {
    this.#free = max;
  }

  /** The task's own end. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    await this.#acquire();
    try {
      return await task();
    } finally {
      this.#release();
    }
  }

  /** Returns when the task has begun; `drain` tells how it ended. @throws the failure of an earlier one */
  async start(task: () => Promise<void>): Promise<void> {
    await this.#acquire();
    if (this.#failure !== undefined) {
      this.#release();
      throw this.#failure.error;
    }
    const begun = task()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#begun.delete(begun);
        this.#release();
      });
    this.#begun.add(begun);
  }

  /** Returns when nothing that was started runs any more. @throws the first failure */
  async drain(): Promise<void> {
    while (this.#begun.size > 0) await Promise.all(this.#begun);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #acquire(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}
