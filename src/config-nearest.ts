const OTHERS_MAX = 3;

/**
 * `, did you mean X?` for the candidate that is a slip away (a third of the letters, at most `distanceMax` edits), else for
 * those of which the word is a whole part (--tls-ca: --source-tls-ca, ...), else nothing.
 */
export function nearest(word: string, candidates: readonly string[], distanceMax = 3): string {
  const bare = bareOf(word);
  let best: string | undefined;
  let bestDistance = Math.min(distanceMax, Math.ceil(bare.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(bare, bareOf(candidate));
    if (distance >= bestDistance) continue;
    best = candidate;
    bestDistance = distance;
  }
  if (best !== undefined) return `, did you mean ${best}?`;
  const around = bare.length < 3 ? [] : candidates.filter((candidate) => hasPart(bareOf(candidate), bare));
  if (around.length === 0 || around.length > OTHERS_MAX) return '';
  return `, did you mean ${around.join(' or ')}?`;
}

/** What all candidates begin with counts for nothing. */
function bareOf(word: string): string {
  return word.toLowerCase().replace(/^(--(no-)?|lanegate_)/, '');
}

function hasPart(candidate: string, word: string): boolean {
  const dashed = `-${candidate.replaceAll('_', '-')}-`;
  return dashed.includes(`-${word.replaceAll('_', '-')}-`);
}

/** Levenshtein's, with two letters that changed places as one edit. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(replaced, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) least = Math.min(least, (before[j - 2] ?? 0) + 1);
      row.push(least);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}
