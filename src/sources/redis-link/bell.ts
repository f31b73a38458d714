/** Wakes whoever waits for something to change; it says nothing of what. */
export class Bell {
  #waiting: (() => void)[] = [];

  /** Until the next ring. What one waits for must be looked at before, in the same turn. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  ring(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
