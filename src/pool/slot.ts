/** A reserved place in a READY worker: taken when it is made, and ended exactly once, by a run or a release. */
import type { Slot, SlotNeed } from "./contract.ts";
import type { Worker } from "./worker.ts";

export class WorkerSlot implements Slot {
	readonly worker: string;
	readonly cold: boolean;
	readonly place: Worker;
	readonly need: SlotNeed;
	#open = true;

	constructor(place: Worker, need: SlotNeed) {
		this.worker = place.id;
		this.cold = place.cold;
		this.place = place;
		this.need = need;
		place.reserve(need);
	}

	close(): void {
		if (!this.#open) throw new Error(`a slot of worker ${this.worker} was used twice`);
		this.#open = false;
	}

	release(): void {
		this.close();
		this.place.release(this.need);
	}
}
