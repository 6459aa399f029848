"""How finished runs hold on worse images: `beitmed robustness RUN...`."""
