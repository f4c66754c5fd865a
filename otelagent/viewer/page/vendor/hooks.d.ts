// What the page uses of Preact's hooks, for the check of its types.
type End = void | (() => void);
type Change<T> = (next: T | ((before: T) => T)) => void;
export function useEffect(effect: () => End, on?: readonly unknown[]): void;
export function useLayoutEffect(effect: () => End, on?: readonly unknown[]): void;
export function useMemo<T>(make: () => T, on: readonly unknown[]): T;
export function useCallback<T extends Function>(call: T, on: readonly unknown[]): T;
export function useRef<T>(first: T): { current: T };
export function useState<T>(first: T | (() => T)): [T, Change<T>];
