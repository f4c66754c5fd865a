// What the page uses of Preact, for the check of its types.
export type Child = VNode | string | number | bigint | boolean | null | undefined | Child[];
export interface VNode {
  type: unknown;
  props: Record<string, unknown>;
  key: unknown;
}
export function h(type: unknown, properties: object | null, ...children: unknown[]): VNode;
export function render(node: VNode | null, parent: Element): void;
export const Fragment: (properties: { children?: unknown }) => unknown;
