// What the page uses of uPlot, for the check of its types.
export default class uPlot {
  constructor(options: object, data: unknown[], place: HTMLElement);
  static join(tables: unknown[][]): unknown[];
  over: HTMLDivElement;
  bbox: { left: number; top: number; width: number; height: number };
  ctx: CanvasRenderingContext2D;
  select: { left: number; width: number; top: number; height: number };
  cursor: { idx: number | null; left: number; top: number };
  setData(data: unknown[]): void;
  setSize(size: { width: number; height: number }): void;
  setSelect(select: { left: number; width: number; top: number; height: number }, tell?: boolean): void;
  posToVal(position: number, scale: string): number;
  valToPos(value: number, scale: string, canvas?: boolean): number;
  destroy(): void;
}
