; A call in tail position takes no room; others do, up to a depth.
(define (loop n) (if (= n 0) 'done (loop (- n 1))))
(print (loop 100000))
(define (deep n) (if (= n 0) 0 (+ 1 (deep (- n 1)))))
(print (deep 2000))
(print (try (lambda () (deep 1000000)) (lambda (text) "too deep, or no memory")))
(print (deep 2000))
(define (cond-loop n) (cond ((= n 0) 'cond) (else (begin (or #f (cond-loop (- n 1)))))))
(print (cond-loop 50000))
