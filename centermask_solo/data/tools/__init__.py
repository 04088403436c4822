"""What ``centermask-solo data`` does to datasets: convert, split, merge and reduce them."""
